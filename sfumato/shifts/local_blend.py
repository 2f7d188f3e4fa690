"""Local blend: the edit is held to where the words are that it is about (arXiv 2208.01626, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepMean, StepState
from sfumato.models.taps import FromSource
from sfumato.shifts.mask import HoldOutside
from sfumato.shifts.words import WordMaps, word_mask


class LocalBlend(Shift):
    """Outside the regions of some words, in the source or in the target, the run is held on the source's latents.

    The regions follow from the maps of all steps of the run so far.

    Attributes:
        source: the words' maps in the source.
        target: the words' maps in the target.
        threshold: 0 to 1, see `word_mask`.
        start: share of the run's steps that are left free: in the first ones the maps do not say much yet.
    """

    def __init__(
        self,
        source: WordMaps,
        target: WordMaps,
        *,
        threshold: float,
        start: float,
    ) -> None:
        self.source = source
        self.target = target
        self.threshold = threshold
        self.start = start
        self._totals: dict[WordMaps, Tensor] = {}

    def for_run(self) -> "LocalBlend":
        """The same without maps."""
        source, target = self.source.emptied(), self.target.emptied()
        return LocalBlend(source, target, threshold=self.threshold, start=self.start)

    def taps(self, state: StepState) -> FromSource | WordMaps:
        """Maps read in both; in the target alone where no source has one of the words."""
        if not self.source.weights.any():
            return self.target
        return FromSource(self.source, self.target, state.steps - state.i)

    def noise_map(self, state: StepMean, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t as it is inside, the source's outside."""
        for words in (self.source, self.target):
            for maps in words.maps.values():
                self._totals[words] = self._totals[words] + maps if words in self._totals else maps
            words.maps.clear()
        if state.i < round(self.start * state.steps):
            return z
        height, width = state.x_t.shape[-2:]
        regions = [word_mask(total, (height, width), self.threshold) for total in self._totals.values()]
        return HoldOutside(torch.stack(regions).amax(dim=0)).noise_map(state, z)
