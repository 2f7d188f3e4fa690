"""The source beside the target: a network around a network that knows what the source looks like at every step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sfumato.core.schedule import Schedule
from sfumato.core.state import Denoiser
from sfumato.errors import BadInput
from sfumato.models.source import Source
from sfumato.models.taps import FromSource


@dataclass(frozen=True, eq=False)
class Beside:
    """Shows the taps that carry something from the source what the source makes, then evaluates what is asked.

    The source is never in one batch with the target, so the target's arithmetic is that of an edit without source.

    Attributes:
        network: what is evaluated.
        source: on the same network.
    """

    network: Denoiser
    source: Source

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
        self.source.show(int(t), [(pair.source, pair.left) for pair in pairs])
        own = [tap.target if isinstance(tap, FromSource) else tap for tap in taps or ()]
        return self.network.predict(x, t, cond, own)
