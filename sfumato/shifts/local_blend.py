"""Local blend: restrict an edit to the regions of given words (Prompt-to-Prompt, arXiv 2208.01626, section 3.2)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import PLACES, WORDS, Shift
from sfumato.core.state import StepMean, StepState
from sfumato.models.taps import FromSource
from sfumato.shifts.mask import HoldOutside
from sfumato.shifts.words import WordMaps, word_mask


class LocalBlend(Shift):
    """Keep the source's latents outside the regions of given words.

    The mask is the union of the words' regions in the source and in the target. They are computed from the
    cross-attention maps, summed over all steps of the run so far.

    Attributes:
        source: tap that reads the words' maps in the source.
        target: tap that reads the words' maps in the target.
        threshold: 0 to 1, see `word_mask`.
        start: share of the first steps without a mask, 0 to 1, because early maps locate words poorly.
        mode: interpolation of the maps, see `word_mask`.
    """

    holds: ClassVar[bool] = True

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
        """A copy without recorded maps."""
        source, target = self.source.emptied(), self.target.emptied()
        return LocalBlend(source, target, threshold=self.threshold, start=self.start, mode=self.mode)

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """The words of the prompt, whose maps give the mask, and the positions of the source outside of it."""
        return (WORDS, PLACES)

    def taps(self, state: StepState) -> FromSource | WordMaps:
        """Taps for source and target; for the target only if no source prompt contains one of the words."""
        if not self.source.weights.any():
            return self.target
        return FromSource(self.source, self.target, state.steps - state.i)

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t inside the mask; outside, the noise map that leads to the source's x_{t-1}."""
        for words in (self.source, self.target):
            for maps in words.maps.values():
                maps = maps.detach()  # those of a step with an energy have its graph
                self._totals[words] = self._totals[words] + maps if words in self._totals else maps
            words.maps.clear()
        if state.i < round(self.start * state.steps):
            return z
        height, width = state.x_t.shape[-2:]
        regions = [word_mask(total, (height, width), self.threshold, self.mode) for total in self._totals.values()]
        return HoldOutside(torch.stack(regions).amax(dim=0)).noise_map(state, z)
