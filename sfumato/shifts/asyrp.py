"""The asymmetric reverse process, Asyrp (Kwon, Jeong, Uh, ICLR 2023, arXiv 2210.10960, section 3.2).

    x_{t-1} = sqrt(abar_{t-1}) P_t(eps(x_t | h_t + dh_t)) + D_t(eps(x_t | h_t)) + sigma_t z_t

P_t is computed from the noise that the network predicts with dh_t added to h_t, the output of its middle block. D_t is
computed from the noise predicted without dh_t. If both used the same noise, the two changes would nearly cancel
(theorem 1). The encoder half is evaluated once and the decoder half twice.
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
    """Add a weighted sum of delta-h to h for P_t only, each delta-h at the timesteps t >= t_edit.

    With classifier-free guidance, dh_t is added to the rows of all conditions. The paper edits networks without
    guidance, so dh_t is trained to change an unguided prediction. With dh_t in all rows, the change of

        eps~ = e_0~ + s (e_c~ - e_0~)

    does not depend on the guidance scale s. If dh_t were added only to the rows of the prompt, its effect would be
    multiplied by s.

    Attributes:
        deltas: the delta-h of every attribute; all of them share one evaluation of the decoder half.
        weights: one factor per delta-h; negative values give the opposite edit.
        t_edit: lowest timestep of the edit, for every delta-h; None for the value stored in each delta-h.
    """

    deltas: Sequence[DeltaH]
    weights: Sequence[float]
    t_edit: int | None = None
    _half: EncoderHalf = field(default_factory=EncoderHalf, init=False, repr=False)

    def for_run(self) -> "Asyrp":
        """Return a copy with its own buffer of encoder outputs."""
        return replace(self)

    def taps(self, state: StepState) -> EncoderHalf | None:
        """Return a tap that records the output of the encoder half, in the steps of the edit."""
        return self._half if self._acting(state.t) else None

    def prediction_taps(self, state: StepNoise) -> Replace | None:
        """Return a tap that replaces h_t by h_t + sum_k w_k dh_t^k, for the noise from which P_t is computed."""
        acting = self._acting(state.t)
        return Replace(MIDDLE, lambda h: moved(h, state.t, acting)) if acting else None

    def _acting(self, t: int) -> list[tuple[DeltaH, float]]:
        pairs = zip(self.deltas, self.weights, strict=True)
        return [(delta, w) for delta, w in pairs if w and t >= (delta.t_edit if self.t_edit is None else self.t_edit)]


def moved(
    h: Float[Tensor, "rows c h w"], t: int, deltas: Sequence[tuple[DeltaH, float]]
) -> Float[Tensor, "rows c h w"]:
    """Compute h + sum_k w_k dh_t^k, in the dtype of h; `deltas` are pairs of a delta-h and its weight w_k."""
    total = sum(weight * delta(h, t) for delta, weight in deltas)
    return (h.float() + total).to(h.dtype)
