"""Local blend: restrict an edit to the regions of given words (Prompt-to-Prompt, arXiv 2208.01626, section 3.2)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import PLACES, WORDS, Shift
from sfumato.core.state import StepMean, StepState
from sfumato.models.taps import FromSource
from sfumato.shifts.mask import KeepOutsideMask
from sfumato.shifts.words import WordMaps, word_mask


class LocalBlend(Shift):
    """Keep the latents of the source outside the regions of given words.

    The mask is the union of the regions of the words in the source and in the target. They are computed from the
    cross-attention maps, summed over all steps of the run so far.

    Attributes:
        source: tap that reads the maps of the words in the source.
        target: tap that reads the maps of the words in the target.
        threshold: 0 to 1, see `word_mask`.
        start: fraction of the steps, from the first one, without a mask, 0 to 1, because early maps locate words
            poorly.
        mode: interpolation of the maps, see `word_mask`.
    """

    keeps_source: ClassVar[bool] = True

    def __init__(
        self,
        source: WordMaps,
        target: WordMaps,
        *,
        threshold: float,
        start: float,
        mode: str = "bilinear",
    ) -> None:
        self.source = source
        self.target = target
        self.threshold = threshold
        self.start = start
        self.mode = mode
        self._totals: dict[WordMaps, Tensor] = {}

    def for_run(self) -> "LocalBlend":
        """Return a copy without recorded maps."""
        source, target = self.source.emptied(), self.target.emptied()
        return LocalBlend(source, target, threshold=self.threshold, start=self.start, mode=self.mode)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The words of the prompt, for the mask, and the positions of the source, for the latents outside of it."""
        return (WORDS, PLACES)

    def taps(self, state: StepState) -> FromSource | WordMaps:
        """Return taps for source and target; only for the target if no source prompt contains one of the words."""
        if not self.source.weights.any():
            return self.target
        return FromSource(self.source, self.target, state.steps - state.i)

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """Return z_t inside the mask, and outside the noise map that leads to x_{t-1} of the source."""
        for words in (self.source, self.target):
            for maps in words.maps.values():
                maps = maps.detach()  # in a step with an energy, the maps have gradient history
                self._totals[words] = self._totals[words] + maps if words in self._totals else maps
            words.maps.clear()
        if state.i < round(self.start * state.steps):
            return z
        height, width = state.x_t.shape[-2:]
        regions = [word_mask(total, (height, width), self.threshold, self.mode) for total in self._totals.values()]
        return KeepOutsideMask(torch.stack(regions).amax(dim=0)).noise_map(state, z)
