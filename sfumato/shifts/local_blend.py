"""Local blend: the edit is held to where the words are that it is about (arXiv 2208.01626, section 3.2)."""

from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.taps import FromSource
from sfumato.shifts.mask import HoldOutside
from sfumato.shifts.words import WordMaps


class LocalBlend(Shift):
    """Outside the regions of some words, in the source or in the target, the run is held on the source's latents.

    The regions follow from the maps of all steps so far. One object serves one run, through `replay_beside`.

    Attributes:
        held: the source's latents, x_0 last.
        source: the words' maps in the source.
        target: the words' maps in the target.
        threshold: 0 to 1, see `word_mask`.
        start: share of the run's steps that are left free: in the first ones the maps do not say much yet.
    """

    def __init__(
        self,
        held: Float[Tensor, "levels b c h w"],
        source: WordMaps,
        target: WordMaps,
        *,
        threshold: float,
        start: float,
    ) -> None:
        self.held = held
        self.source = source
        self.target = target
        self.threshold = threshold
        self.start = start

    def taps(self, state: StepState) -> FromSource | WordMaps:
        """Maps looked at in both; in the target alone where no source has one of the words."""
        if not self.source.weights.any():
            return self.target
        return FromSource(self.source, self.target, state.steps - state.i)

    def noise_map(self, state: StepState, z: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"] | None:
        """z_t as it is inside, the source's outside."""
        if state.i < round(self.start * state.steps):
            return z
        height, width = state.x_t.shape[-2:]
        region = self.target.mask((height, width), self.threshold)
        if self.source.total is not None:
            region = region.maximum(self.source.mask((height, width), self.threshold))
        return HoldOutside(self.held, region).noise_map(state, z)
