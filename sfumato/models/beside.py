"""The target beside its source: a network around a network that lets taps read the source at every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.source import Source
from sfumato.models.taps import FromSource


@dataclass(frozen=True, eq=False)
class Beside:
    """Lets the taps that carry something from the source read it, then evaluates the target.

    The source is never in one batch with the target, so the target's arithmetic is that of an edit without source.

    Attributes:
        model: what is evaluated.
        latents: x_t [b,c,h,w] of the source by timestep, in the order of the run.
        condition: the source's prompt, one row per image.
        exact: see `Source`.
    """

    model: DiffusionModel
    latents: dict[int, Tensor]
    condition: Condition
    exact: bool = False
    _sources: dict[int, Source] = field(default_factory=dict, init=False, repr=False)

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.model.schedule

    def predict(
        self, x: Float[Tensor, "rows c h w"], t: int | Tensor, cond: Any, taps: Sequence[Any] | None = None
    ) -> Float[Tensor, "rows c h w"]:
        """The target's noise."""
        pairs = [tap for tap in taps or () if isinstance(tap, FromSource)]
        if not pairs:
            return self.model.predict(x, t, cond, taps)
        conditions = {id(pair.under): pair.under or self.condition for pair in pairs}
        for key, condition in conditions.items():
            source = self._sources.setdefault(key, Source(self.model, self.latents, condition, self.exact))
            source.read(int(t), [(pair.source, pair.left) for pair in pairs if id(pair.under) == key])
        own = [tap.target if isinstance(tap, FromSource) else tap for tap in taps or ()]
        return self.model.predict(x, t, cond, own)


def model_of(network: Any) -> DiffusionModel:
    """The model inside guidance and the source beside it, to read features or differentiate without guidance."""
    while not isinstance(network, DiffusionModel):
        network = network.model if isinstance(network, Beside) else network.network
    return network
