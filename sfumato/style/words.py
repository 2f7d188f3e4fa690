"""Style words: descriptors of texts in the space of the style descriptors.

The descriptor m_w of a word is the mean over the images whose caption contains it. The descriptor of a text is the mean
m over all images, plus the difference of each of its words from m:

    a(text) = m + sum_w (m_w - m)

Words that describe the content occur in captions of all styles, so their difference is small and they have little
effect. Words of `FUNCTION_WORDS` have none, also if captions contain them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

_WORD = re.compile(r"\w+(?:[-']\w+)*")
_JOINTS = re.compile(r"[-']")
FUNCTION_WORDS = frozenset({
    "a", "an", "and", "as", "at", "by", "for", "from", "in", "no", "o", "of", "on", "or", "s", "style", "the", "to",
    "up", "with",
})  # fmt: skip
"""Words that name no style."""


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, each once; "fluent-flat" is one word."""
    return list(dict.fromkeys(_WORD.findall(text.casefold())))


def parts_of(word: str) -> list[str]:
    """A word and, if it has hyphens, its parts: "fluent-flat" -> ["fluent-flat", "fluent", "flat"]."""
    return list(dict.fromkeys([word, *_JOINTS.split(word)]))


@dataclass(frozen=True, eq=False)
class StyleWords:
    """Mean descriptors of words.

    Attributes:
        words: the words.
        means: m_w, mean descriptors of the words, [n,d].
        centre: m, mean descriptor of all images, [d].
    """

    words: tuple[str, ...]
    means: Float[Tensor, "n d"]
    centre: Float[Tensor, " d"]

    @classmethod
    def learn(cls, descriptors: Float[Tensor, "n d"], captions: Sequence[str], least: int) -> "StyleWords":
        """Compute the means of all words that occur in at least `least` captions; descriptor i belongs to caption i."""
        rows: dict[str, list[int]] = {}
        for row, caption in enumerate(captions):
            for part in dict.fromkeys(part for word in words_of(caption) for part in parts_of(word)):
                rows.setdefault(part, []).append(row)
        kept = sorted(word for word, found in rows.items() if len(found) >= least)
        means = [descriptors[rows[word]].mean(dim=0) for word in kept]
        stacked = torch.stack(means) if means else descriptors.new_zeros(0, descriptors.shape[1])
        return cls(tuple(kept), stacked, descriptors.mean(dim=0))

    def __call__(self, text: str) -> Float[Tensor, " d"]:
        """The descriptor of a text, not normalised; unknown words (`unknown`) have no effect.

        Raises:
            BadInput: none of its words is known.
        """
        rows = {word: row for row, word in enumerate(self.words)}
        parts = [part for word in words_of(text) for part in self._parts(word)]
        known = [rows[part] for part in dict.fromkeys(parts) if part in rows]
        if not known:
            first = next(iter(self.unknown(text)), text.strip())
            raise BadInput(
                f'The style encoder was trained with no word of "{text[:60]}"{suggestion(first, self.words)}'
            )
        return self.centre + (self.means[known] - self.centre).sum(dim=0)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the descriptor does not contain, other than `FUNCTION_WORDS`.

        Of a word with hyphens that is only known in part, these are the unknown parts.
        """
        found: list[str] = []
        for word in words_of(text):
            parts = self._parts(word)
            missing = [part for part in parts if part not in self.words]
            found += [word] if len(missing) == len(parts) > 1 else missing
        return list(dict.fromkeys(found))

    def _parts(self, word: str) -> list[str]:
        """The word itself if it is known, otherwise its parts; without `FUNCTION_WORDS`."""
        parts = [word] if word in self.words else _JOINTS.split(word)
        return [part for part in parts if part not in FUNCTION_WORDS]


def notes_on(unknown: Sequence[str]) -> list[str]:
    """One sentence that names unknown style words; [] if there are none."""
    if not unknown:
        return []
    named = ", ".join(f'"{word}"' for word in unknown)
    effect = "it has no effect" if len(unknown) == 1 else "they have no effect"
    return [f"The style encoder knows no {named}: {effect}."]
