"""The source beside the target: a network around a network that knows what the source looks like at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import Schedule
from sfumato.core.state import Denoiser
from sfumato.errors import BadInput
from sfumato.models.taps import FromSource


@dataclass(frozen=True, eq=False)
class Beside:
    """Evaluates the source first wherever a tap carries something from it, then what is asked.

    The source's latents are those of its inversion, so it never drifts from the picture, needs no guidance of its
    own and no evaluation where nothing is carried (Ju et al., arXiv 2310.01506, hold the source branch of an edit on
    them; Tumanyan et al., arXiv 2211.12572, read their features from them). The two evaluations are one after the
    other, which keeps the memory of one and the target's arithmetic that of an edit without source.

    Attributes:
        network: what is evaluated.
        latents: the source's x_t [b,c,h,w] by timestep.
        condition: the source's, one row per image.
    """

    network: Denoiser
    latents: Mapping[int, Tensor]
    condition: Any

    @property
    def schedule(self) -> Schedule:
        """The schedule of the network."""
        return self.network.schedule

    def predict(
        self, x: Float[Tensor, "rows c h w"], t: int | Tensor, cond: Any, taps: Sequence[Any] | None = None
    ) -> Float[Tensor, "rows c h w"]:
        """The target's noise.

        Raises:
            BadInput: two taps replace the same thing, so that only the last would be felt; before any evaluation.
        """
        pairs = [tap for tap in taps or () if isinstance(tap, FromSource)]
        replaced = [name for pair in pairs for name in pair.replaces]
        for name in replaced:
            if replaced.count(name) > 1:
                raise BadInput(f"Two shifts replace {name} in the same steps: leave one of them out.")
        if not pairs:
            return self.network.predict(x, t, cond, taps)
        self.network.predict(self.latents[int(t)], t, self.condition, [pair.source for pair in pairs])
        own = [tap.target if isinstance(tap, FromSource) else tap for tap in taps or ()]
        return self.network.predict(x, t, cond, own)
