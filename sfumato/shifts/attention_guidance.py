"""Cross-attention guidance towards the attention maps of the source (pix2pix-zero, arXiv 2302.03027, section 3.3).

    x_t <- x_t - lambda grad_{x_t} ||A(x_t, c_edit) - A_ref||^2                                        (eq. 6)

A_ref are the maps of the source at the same step. The gradient is taken through the evaluation under the target prompt.
The public code differs (`published_guidance`). It updates two copies of x_t, one for the conditional and one for the
negative prediction of classifier-free guidance, by the gradient through the maps of that prediction. Each prediction is
evaluated at its own copy, and the run continues from the copy of the negative prediction, whose maps in the first step
equal those of the source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.energy import Energy
from sfumato.core.guidance import Guided
from sfumato.core.rows import NEGATIVE, TARGET, Rows
from sfumato.core.schedule import Schedule
from sfumato.core.shift import PLACES, WORDS, Shift
from sfumato.core.state import Denoiser, NetworkTap, StepState
from sfumato.models.attention import Layers, RecordMaps, replaced_rows
from sfumato.models.taps import FromSource

CROSS = Layers(cross=True)


@dataclass(frozen=True, eq=False)
class CrossAttentionGuidance(Shift):
    """A gradient step on x_t before every prediction. It needs two more evaluations per step, of one row per image.

    Attributes:
        amount: lambda, the step size, 0.1 in the paper.
        under: name of the condition whose maps are guided towards those of the source.
        source: condition under which the source is evaluated, one row per image; None for the prompt of the inversion.
        layers: cross-attention layers; explicit names avoid a search for matching modules.
    """

    amount: float
    under: str = TARGET
    source: Condition | None = None
    layers: Layers = CROSS

    def reads(self, i: int, steps: int) -> tuple[str, ...]:
        """Words and positions, as the maps of source and target are compared per token and per position."""
        return (WORDS, PLACES)

    def energy(self, state: StepState) -> Energy:
        """Return ||A - A_ref||^2 of every image as an energy."""
        own, reference = RecordMaps(self.layers, self.under), RecordMaps(self.layers)

        def value(x: Tensor, eps: Tensor) -> Tensor:
            return attention_loss(own.maps, reference.maps)

        reading = FromSource(reference, own, state.steps - state.i, self.source)
        return Energy(value, (reading,), self.under, "cross-attention guidance")

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x_t - lambda grad_{x_t} ||A - A_ref||^2."""
        return x - self.amount * state.gradient(self)


@dataclass(frozen=True, eq=False)
class FollowAttentionPerCondition(CrossAttentionGuidance):
    """The gradient step for the rows of one condition only, which are evaluated at their own updated x_t.

    The x_t of the run and of the other conditions does not change. As for `CrossAttentionGuidance`, two more
    evaluations per step are needed, of one row per image.

    Attributes:
        without: a guidance of the run's x_t whose gradient step these rows do not make, or None. The steps of all other
            shifts apply to these rows, too.
    """

    without: CrossAttentionGuidance | None = None
    _step: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def for_run(self) -> "FollowAttentionPerCondition":
        """Return a copy, as the update is stored between the gradient and the prediction of a step."""
        return replace(self)

    def guidance(self, state: StepState, guided: Guided) -> Guided:
        """Return the same guidance, with the prediction under the condition `under` evaluated at the updated x_t."""
        self._step.clear()
        return replace(guided, network=_RowsAtOtherLatents(guided.network, self.under, self._step))

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Store the update of x_t for the prediction and return x_t unchanged.

        The returned tensor is a copy, so that the loop does not reuse the prediction that it has computed at x_t.
        """
        other = self.without.amount * state.gradient(self.without) if self.without is not None else 0
        self._step[:] = [self.amount * state.gradient(self) - other]
        return x.clone()


@dataclass(frozen=True, eq=False)
class _RowsAtOtherLatents:
    """A `Denoiser` that evaluates the rows of one condition at x_t - `step[0]`, if `step` is not empty."""

    network: Denoiser
    under: str
    step: list[Tensor]

    @property
    def schedule(self) -> Schedule:
        return self.network.schedule

    def predict(self, x: Tensor, t: int | Tensor, cond: Condition, taps: Sequence[NetworkTap] | None = None) -> Tensor:
        if self.step:
            step = self.step[0]
            rows = replaced_rows(x, Rows.of_evaluation(cond, len(x)), self.under, lambda own: (own - step).to(x.dtype))
            x = x if rows is None else rows
        return self.network.predict(x, t, cond, taps)


def published_guidance(amount: float, negative: Condition, layers: Layers = CROSS) -> Sequence[Shift]:
    """Return the shifts of the public code's guidance, see the module docstring.

    The loss of the public code is the mean over the conditional and the negative prediction, so the step size for each
    of them is half of `amount`.

    Args:
        amount: step size of the public code, 0.1 for real images.
        negative: condition of the negative prediction, one row per image.
        layers: cross-attention layers.
    """
    of_run = CrossAttentionGuidance(amount / 2, NEGATIVE, negative, layers)
    return FollowAttentionPerCondition(amount / 2, TARGET, None, layers, without=of_run), of_run


def attention_loss(
    maps: Mapping[str, Float[Tensor, "b heads queries n"]], reference: Mapping[str, Float[Tensor, "b heads queries n"]]
) -> Float[Tensor, " b"]:
    """Compute ||A - A_ref||^2 of every image: summed over layers, queries and tokens, averaged over heads.

    Args:
        maps: attention maps A by layer name.
        reference: maps A_ref of the source by layer name.
    """
    each = []
    for name, own in maps.items():
        precision = torch.promote_types(own.dtype, torch.float32)
        each.append((own.to(precision) - reference[name].to(precision)).square().sum(dim=(2, 3)).mean(dim=1))
    return torch.stack(each).sum(dim=0)
