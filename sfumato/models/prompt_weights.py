r"""Weights of words in prompts, "(red:1.4) apple", as embedding weights.

Let z be the tokens of the text without its weights, [n,d], and e those of the empty prompt. A token of weight w becomes

    e + w (z - e)                                                                            (1)

Weights below 1 also act inside the text encoder. For every phrase k of a weight w_k < 1, z_k is (1) with the phrase
masked from the attention of the text encoder, and the result is

    (z_w + sum_k a_k z_k) / (1 + sum_k a_k),      a_k = tan((1 - w_k) pi / 2)                 (2)

so that the prompt approaches the one without the phrase as w_k goes to 0. These are the rules of the package compel,
which users of diffusers know; pooled vectors are not weighted there either. "\(" and "\)" are plain brackets.
"""

import math
import re
from dataclasses import dataclass

from sfumato.errors import BadInput

MOST = 10.0
"""Largest weight; above about 1.6, results of Stable Diffusion fall apart."""
_PHRASE = re.compile(r"\\(?P<escaped>[()])|\((?P<text>[^()]*):\s*(?P<weight>[-+]?\d*\.?\d+)\s*\)")
_LEAST = 1e-5


@dataclass(frozen=True)
class Phrase:
    """A weighted part of a prompt: characters `start` to `stop` of the text without weights."""

    start: int
    stop: int
    weight: float

    @property
    def share(self) -> float:
        """a_k of equation 2; 0 for weights of at least 1."""
        return math.tan((1 - max(self.weight, _LEAST)) * math.pi / 2) if self.weight < 1 else 0.0


@dataclass(frozen=True)
class Weighted:
    """A prompt without its weights, and the weights of its phrases."""

    text: str
    phrases: tuple[Phrase, ...]

    def weight_at(self, position: int) -> float:
        """The weight of the character at a position."""
        return next((each.weight for each in self.phrases if each.start <= position < each.stop), 1.0)


def parse(prompt: str) -> Weighted:
    """Read the weights of a prompt.

    Raises:
        BadInput: a weight is negative or above `MOST`.
    """
    text, end, phrases = "", 0, []
    for found in _PHRASE.finditer(prompt):
        text += prompt[end : found.start()]
        inner = found["escaped"] or found["text"]
        if found["weight"]:
            weight = float(found["weight"])
            if not 0 <= weight <= MOST:
                raise BadInput(f'The weight of "{inner}" must be from 0 to {MOST:g}, not {found["weight"]:.20}.')
            phrases.append(Phrase(len(text), len(text) + len(inner), weight))
        text, end = text + inner, found.end()
    return Weighted(text + prompt[end:], tuple(phrases))
