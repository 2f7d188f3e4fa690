"""The arguments that restrict an edit to an automatic region. This module does not import torch."""

from dataclasses import dataclass

from sfumato.errors import BadInput
from sfumato.options.prompt_words import NamedWord

WORDS, DIFFERENCE = 0.3, 1.5
"""Default thresholds: fraction of the range of word maps (Prompt-to-Prompt), multiple of the mean (DiffEdit)."""


@dataclass(frozen=True)
class Region:
    """Definition of the region to which an edit is restricted.

    Attributes:
        words: words of either prompt, from whose attention maps the region is computed; () for the region where the
            predictions under the two prompts differ (DiffEdit, arXiv 2210.11427).
        threshold: for words, a fraction of the range of their maps, 0 to 1; for the difference, a multiple of its mean,
            0 to 100.
    """

    words: tuple[str, ...]
    threshold: float

    @property
    def named_words(self) -> list[NamedWord]:
        """The words, for a check without a tokenizer."""
        return [NamedWord("mask_words", word, "either") for word in self.words]


def region(words: str, difference: bool, threshold: float | None) -> Region | None:
    """Check the arguments of a region and return its definition, or None if they define no region.

    Args:
        words: words separated by commas, or "".
        difference: whether the region is computed from the difference of the prompts.
        threshold: see `Region`; None for the default.

    Raises:
        BadInput: the words are not text, both kinds of region are given, the threshold is out of range or given without
            a region, or a word is empty.
    """
    if not isinstance(words, str):
        raise BadInput(f'mask_words must be text, words separated by commas, like "cat,dog", not {words!r}.')
    if words and difference:
        raise BadInput("Give mask_words or mask_difference, not both.")
    if not words and not difference:
        if threshold is not None:
            raise BadInput("mask_threshold belongs to mask_words or mask_difference: give one of them.")
        return None
    named = tuple(part.strip() for part in words.split(",")) if words else ()
    if not all(named):
        raise BadInput(
            f'mask_words must be words separated by commas, like "cat,dog", not "{words}": remove the empty part.'
        )
    chosen = (WORDS if words else DIFFERENCE) if threshold is None else threshold
    high = 1.0 if words else 100.0
    if isinstance(chosen, bool) or not isinstance(chosen, int | float) or not 0 < chosen < high:
        raise BadInput(f"mask_threshold must be above 0 and below {high:g}, not {threshold!r}.")
    return Region(named, float(chosen))
