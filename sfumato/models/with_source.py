"""A network with a source branch: taps read its features or maps before each evaluation of the target."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule
from sfumato.core.state import NetworkTap
from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.encoder_half import EncoderHalf
from sfumato.models.source import Source
from sfumato.models.taps import NO_SOURCE, FromSource


@dataclass(frozen=True, eq=False)
class WithSource:
    """A `Denoiser` that runs the source part of `FromSource` taps on the source, then evaluates the target.

    Source and target are evaluated in separate batches, so the target is rounded exactly as in an edit without source.

    Attributes:
        model: the model, without guidance.
        latents: x_t [b,c,h,w] of the source by timestep, in the order of the run; {} for generated images, whose taps
            can read other images (`FromSource.images`) only.
        condition: condition of the source prompt, one row per image.
        exact: see `Source`.
    """

    model: DiffusionModel
    latents: dict[int, Tensor]
    condition: Condition
    exact: bool = False
    _sources: dict[tuple[int, int], Source] = field(default_factory=dict, init=False, repr=False)

    @property
    def schedule(self) -> Schedule:
        """Noise schedule of the network."""
        return self.model.schedule

    def predict(
        self, x: Float[Tensor, "rows c h w"], t: int | Tensor, cond: Condition, taps: Sequence[NetworkTap] | None = None
    ) -> Float[Tensor, "rows c h w"]:
        """Predicted noise of the target; `FromSource` taps read the source first."""
        pairs = [tap for tap in taps or () if isinstance(tap, FromSource)]
        if not pairs:
            return self.model.predict(x, t, cond, taps)
        again = any(isinstance(tap, EncoderHalf) or (isinstance(tap, FromSource) and tap.again) for tap in taps or ())
        for one in {_key(pair): pair for pair in pairs}.values():
            readings = [(pair.source, pair.left) for pair in pairs if _key(pair) == _key(one)]
            self._source(one).read(int(t), readings, again=again)
        own = [tap.target if isinstance(tap, FromSource) else tap for tap in taps or ()]
        return self.model.predict(x, t, cond, own)

    def _source(self, pair: FromSource) -> Source:
        """The source that a pair of taps reads."""
        if pair.images is not None:
            latents, condition = pair.images.latents, pair.images.condition
        elif self.latents:
            latents, condition = self.latents, pair.under or self.condition
        else:
            raise BadInput(NO_SOURCE)
        return self._sources.setdefault(_key(pair), Source(self.model, latents, condition, self.exact))


def _key(pair: FromSource) -> tuple[int, int]:
    """Key of the source evaluation that a pair of taps reads; equal keys share one evaluation."""
    return id(pair.images), id(pair.under)


def model_of(network: Any) -> DiffusionModel:
    """The model inside `Guided` and `WithSource`, to read features or differentiate without guidance."""
    while not isinstance(network, DiffusionModel):
        network = network.model if isinstance(network, WithSource) else network.network
    return network
