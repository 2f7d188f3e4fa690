"""Cross-attention guidance: the latent follows the source's attention maps (pix2pix-zero, arXiv 2302.03027, 3.3).

    x_t <- x_t - lambda grad_{x_t} ||A(x_t, c_edit) - A_ref||^2                                        (eq. 6)

A_ref are the maps of the source at the same step. The gradient is taken through the evaluation under the target prompt;
the public code takes it through the one under the negative prompt, whose maps in the first step are the source's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.energy import Energy
from sfumato.core.rows import TARGET
from sfumato.core.shift import Shift
from sfumato.core.state import StepState
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.taps import FromSource

CROSS = Layers(cross=True)


@dataclass(frozen=True, eq=False)
class FollowAttention(Shift):
    """A gradient step on x_t before every prediction. It costs two more evaluations per step, of one row per image.

    Attributes:
        amount: lambda, the step size, 0.1 in the paper.
        under: name of the condition whose maps are moved towards the source's.
        source: condition of the source's evaluation, one row per image; None for the prompt of the inversion.
        layers: cross-attention layers; given by their names they are found faster than by a pattern.
    """

    amount: float
    under: str = TARGET
    source: Condition | None = None
    layers: Layers = CROSS

    def energy(self, state: StepState) -> Energy:
        """||A - A_ref||^2 of every image, as an energy."""
        own, reference = RecordMaps(self.layers, self.under), RecordMaps(self.layers)

        def value(x: Tensor, eps: Tensor) -> Tensor:
            return attention_loss(own.maps, reference.maps)

        reading = FromSource(reference, own, state.steps - state.i, self.source)
        return Energy(value, (reading,), self.under, "cross-attention guidance")

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t - lambda grad_{x_t} ||A - A_ref||^2."""
        return x - self.amount * state.gradient(self)


def attention_loss(
    maps: Mapping[str, Float[Tensor, "b heads queries n"]], reference: Mapping[str, Float[Tensor, "b heads queries n"]]
) -> Float[Tensor, " b"]:
    """||A - A_ref||^2 of every image: summed over layers, queries and tokens, averaged over heads."""
    each = []
    for name, own in maps.items():
        precision = torch.promote_types(own.dtype, torch.float32)
        each.append((own.to(precision) - reference[name].to(precision)).square().sum(dim=(2, 3)).mean(dim=1))
    return torch.stack(each).sum(dim=0)
