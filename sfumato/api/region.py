"""The region to which an edit is restricted, as the caller describes it. This module does not import torch."""

from dataclasses import dataclass

from sfumato.errors import BadInput

WORDS, DIFFERENCE = 0.3, 1.5
"""Default thresholds: share of the range of the words' maps (Prompt-to-Prompt), multiple of the mean (DiffEdit)."""


@dataclass(frozen=True)
class Region:
    """The region to which an edit is restricted.

    Attributes:
        words: words of either prompt, whose attention maps give the region; () for the region where the predictions
            under the two prompts differ (DiffEdit, arXiv 2210.11427).
        threshold: for words, 0 to 1, a share of the range of their maps; for the difference, 0 to 100, a multiple of
            its mean.
    """

    words: tuple[str, ...]
    threshold: float


def region(words: str, difference: bool, threshold: float | None) -> Region | None:
    """The region that the caller's arguments describe, or None for no region.

    Args:
        words: words separated by commas, or "".
        difference: whether the region is the difference of the prompts.
        threshold: see `Region`; None for the default.

    Raises:
        BadInput: both kinds of region, a threshold without a region or out of range, or an empty word.
    """
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
