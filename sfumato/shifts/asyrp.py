"""The asymmetric reverse process, Asyrp (Kwon, Jeong, Uh, ICLR 2023, arXiv 2210.10960, section 3.2).

    x_{t-1} = sqrt(abar_{t-1}) P_t(eps(x_t | h_t + dh_t)) + D_t(eps(x_t | h_t)) + sigma_t z_t

P_t is computed from the noise that the network predicts with dh_t added to h_t, the output of its middle block; D_t
from the noise without it. If both used the same noise, the two changes would nearly cancel (theorem 1). The encoder
half is evaluated once, the decoder half twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from sfumato.core.shift import Shift
from sfumato.core.state import StepNoise, StepState
from sfumato.models.encoder_half import MIDDLE, EncoderHalf
from sfumato.models.taps import Replace
from sfumato.shifts.delta_h import DeltaH


@dataclass(frozen=True, eq=False)
class Asyrp(Shift):
    """Add a weighted sum of delta-h to h in P_t only, each at the timesteps t >= t_edit.

    With guidance dh_t is added to the rows of all conditions. The paper edits networks without guidance: dh_t is
    trained as a change of a prediction without it, and

        eps~ = e_0~ + s (e_c~ - e_0~)

    makes that change once, whatever s is. On the rows of the prompt only, guidance would multiply it by s.

    Attributes:
        deltas: the delta-h of every attribute; all together cost one evaluation of the decoder half.
        weights: one factor for each; negative values make the opposite edit.
        t_edit: first timestep of the edit, counted from 0, for all; None for that of each delta-h.
    """

    deltas: Sequence[DeltaH]
    weights: Sequence[float]
    t_edit: int | None = None
    _half: EncoderHalf = field(default_factory=EncoderHalf, init=False, repr=False)

    def for_run(self) -> "Asyrp":
        """A copy that records its own encoder halves."""
        return replace(self)

    def taps(self, state: StepState) -> EncoderHalf | None:
        """Record the encoder half in the steps of the edit."""
        return self._half if self._acting(state.t) else None

    def prediction_taps(self, state: StepNoise) -> Replace | None:
        """h_t + sum_k w_k dh_t^k, in the evaluation whose noise only P_t uses."""
        acting = self._acting(state.t)
        return Replace(MIDDLE, lambda h: moved(h, state.t, acting)) if acting else None

    def _acting(self, t: int) -> list[tuple[DeltaH, float]]:
        pairs = zip(self.deltas, self.weights, strict=True)
        return [(delta, w) for delta, w in pairs if w and t >= (delta.t_edit if self.t_edit is None else self.t_edit)]


def moved(
    h: Float[Tensor, "rows c h w"], t: int, deltas: Sequence[tuple[DeltaH, float]]
) -> Float[Tensor, "rows c h w"]:
    """h + sum_k w_k dh_t^k, in the precision of h."""
    total = sum(weight * delta(h, t) for delta, weight in deltas)
    return (h.float() + total).to(h.dtype)
