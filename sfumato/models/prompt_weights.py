r"""Weights of words in prompts, "(red:1.4) apple", as embedding weights.

Let z be the text embedding of the prompt without its weights, [n,d], and e that of the empty prompt. The embedding of a
token with weight w becomes

    e + w (z - e)                                                                            (1)

Weights below 1 also change the attention inside the text encoder. For every phrase k with weight w_k < 1, z_k is (1)
with the phrase masked from the attention of the text encoder, and the result is

    (z_w + sum_k a_k z_k) / (1 + sum_k a_k),      a_k = tan((1 - w_k) pi / 2)                 (2)

so that the embedding approaches that of the prompt without the phrase as w_k goes to 0. These are the rules of the
package compel, which is commonly used with diffusers. As in compel, pooled embeddings are not weighted.

A phrase may contain brackets. Weights inside weights are multiplied: in "((a cat:1.2) on a mat:1.1)" the cat has the
weight 1.32. Brackets without a weight are text; "\(" and "\)" are always text. Every phrase consists of whole tokens.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sfumato.errors import BadInput

MOST = 10.0
"""Largest weight; weights above about 1.6 cause strong artefacts in Stable Diffusion."""
_NUMBER = r"[-+.,]*\d[-+.,%\deE]*"
_BRACKET = re.compile(rf"\\[()]|\(|(?::\s*(?P<weight>{_NUMBER})\s*)?\)")
_BEGUN = re.compile(rf":\s*{_NUMBER}(?P<end>\s*\\?\))?")
_LEAST = 1e-5
_SHOWN = 40


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
    """A prompt without its weights, and the weights of its phrases, which do not overlap."""

    text: str
    phrases: tuple[Phrase, ...]

    def weight_at(self, position: int) -> float:
        """The weight of the character at a position."""
        return next((each.weight for each in self.phrases if each.start <= position < each.stop), 1.0)

    def check_borders(self, tokens: Sequence[tuple[int, int]]) -> None:
        """Check that the phrases consist of whole tokens.

        Args:
            tokens: start and stop in the text of every token.

        Raises:
            BadInput: a phrase begins or ends inside a token, which has one weight.
        """
        starts = {start for start, stop in tokens if start < stop}
        inside = {place for start, stop in tokens for place in range(start + 1, stop)}
        for phrase in self.phrases:
            if {phrase.start, phrase.stop} & inside or not starts & {*range(phrase.start, phrase.stop)}:
                raise BadInput(
                    f'The weight of "{self.text[phrase.start : phrase.stop]:.{_SHOWN}}" begins or ends inside a word '
                    "that the model reads as one token: put the whole word into the brackets, or spaces around them."
                )


@dataclass(frozen=True)
class _Bracket:
    """A bracket that delimits a weighted phrase, with its weight: characters `start` to `stop` of the prompt.

    Attributes:
        factor: the weight of its phrase, at the opening and at the closing bracket.
        opens: whether it is the opening one.
    """

    start: int
    stop: int
    factor: float
    opens: bool


def parse(prompt: str) -> Weighted:
    """Read the weights of a prompt.

    Raises:
        BadInput: a weight is not a number, negative or above `MOST`, or one of its brackets is missing.
    """
    text, end, factors, pieces = "", 0, [1.0], list[Phrase]()
    for bracket in _brackets(prompt):
        piece = _unescaped(prompt[end : bracket.start])
        pieces.append(Phrase(len(text), len(text) + len(piece), factors[-1]))
        text, end = text + piece, bracket.stop
        if bracket.opens:
            factors.append(factors[-1] * bracket.factor)
        else:
            factors.pop()
    return Weighted(text + _unescaped(prompt[end:]), tuple(_joined(text, pieces)))


def _joined(text: str, pieces: Sequence[Phrase]) -> Iterator[Phrase]:
    """The weighted pieces that contain text; neighbours of the same weight are one phrase, as in compel."""
    last: Phrase | None = None
    for piece in pieces:
        if not text[piece.start : piece.stop].strip():
            continue
        if last is not None and piece.weight == last.weight:
            last = Phrase(last.start, piece.stop, last.weight)
            continue
        yield from _checked(text, last)
        last = piece
    yield from _checked(text, last)


def _checked(text: str, phrase: Phrase | None) -> Iterator[Phrase]:
    """The phrase if it has a weight other than 1, checked as a product of weights."""
    if phrase is not None and phrase.weight != 1:
        _check(phrase.weight, text[phrase.start : phrase.stop], f"{phrase.weight:g}")
        yield phrase


def _brackets(prompt: str) -> list[_Bracket]:
    """The brackets of weights in a prompt, in order."""
    opened: list[re.Match[str]] = []
    found: list[_Bracket] = []
    for mark in _BRACKET.finditer(prompt):
        if mark[0] == "(":
            opened.append(mark)
        elif mark[0][0] != "\\":
            opening = opened.pop() if opened else None
            if mark["weight"] is None:
                continue
            if opening is None:
                raise BadInput(
                    f'The prompt has "{mark[0]:.{_SHOWN}}" without "(": add it before the words of the weight, or '
                    r'write "\)" for a bracket that is text.'
                )
            weight = _weight(mark["weight"], prompt[opening.end() : mark.start()])
            found += [_Bracket(*opening.span(), weight, True), _Bracket(*mark.span(), weight, False)]
    for begun in _BEGUN.finditer(prompt, opened[0].end()) if opened else ():
        if not begun["end"]:
            raise BadInput(
                f'The prompt has "(" without ")" after the weight "{begun[0]:.{_SHOWN}}": add it, or write '
                r'"\(" for a bracket that is text.'
            )
    return sorted(found, key=lambda each: each.start)


def _weight(written: str, words: str) -> float:
    """The number of a weight. Raises BadInput as `parse`."""
    try:
        weight = float(written)
    except ValueError:
        raise BadInput(
            f'The weight of "{words:.{_SHOWN}}" cannot be {written:.20}: write a number with a point, as in '
            r'(word:1.4), or "\(" and "\)" for brackets that are text.'
        ) from None
    _check(weight, words, written)
    return weight


def _check(weight: float, words: str, written: str) -> None:
    if not 0 <= weight <= MOST:
        raise BadInput(f'The weight of "{words:.{_SHOWN}}" must be from 0 to {MOST:g}, not {written:.20}.')


def _unescaped(text: str) -> str:
    return text.replace(r"\(", "(").replace(r"\)", ")")
