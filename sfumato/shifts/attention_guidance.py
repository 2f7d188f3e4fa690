"""Cross-attention guidance: the latent follows the source's attention maps (pix2pix-zero, arXiv 2302.03027, 3.3).

    x_t <- x_t - lambda grad_{x_t} ||A(x_t, c_edit) - A_ref||^2                                        (eq. 6)

A_ref are the maps of the source at the same step. The gradient goes through the evaluation under the condition of the
edit; the public code takes it through the one under the negative prompt, whose maps are the source's in the first step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.shift import Shift
from sfumato.core.state import StepState, check_finite
from sfumato.models.attention import Layers, RecordMaps
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.source import Source

CROSS = Layers(cross=True)


@dataclass(frozen=True, eq=False)
class FollowAttention(Shift):
    """A gradient step on x_t before every evaluation.

    Two evaluations without guidance, one row per image each: the source on its recorded latents, and the edit with
    gradients. Put it behind the shifts that move the condition.

    Attributes:
        network: without guidance.
        source: what is followed.
        amount: lambda, 0.1 in the paper.
        edited: whose maps follow the source's; None: those of the run's own condition.
    """

    network: DiffusionModel
    source: Source
    amount: float
    edited: Condition | None = None

    def latent(self, state: StepState, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x_t, moved.

        Raises:
            NonFinite: the gradient holds NaN or infinity.
        """
        reference = RecordMaps(CROSS)
        self.source.show(state.t, [(reference, state.steps - state.i)])
        edited = state.condition if self.edited is None else self.edited
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            loss = attention_loss(attention_maps(self.network, x, state.t, edited), reference.maps)
            (gradient,) = torch.autograd.grad(loss.sum(), x)
        check_finite(gradient, "the gradient of cross-attention guidance", state.i, state.steps, state.t)
        return x.detach() - self.amount * gradient


def attention_maps(
    network: DiffusionModel, x: Float[Tensor, "b c h w"], t: int, condition: Condition
) -> dict[str, Float[Tensor, "b heads queries n"]]:
    """The maps of every cross-attention layer by its name, with gradient history if gradients are enabled.

    Raises:
        BadInput: the network has no cross-attention.
    """
    record = RecordMaps(CROSS)
    network.predict(x, t, condition, [record])
    return record.maps


def attention_loss(
    maps: dict[str, Float[Tensor, "b heads queries n"]], reference: dict[str, Float[Tensor, "b heads queries n"]]
) -> Float[Tensor, " b"]:
    """||A - A_ref||^2 of every image: summed over layers, queries and tokens, averaged over heads."""
    each = []
    for name, own in maps.items():
        precision = torch.promote_types(own.dtype, torch.float32)
        each.append((own.to(precision) - reference[name].to(precision)).square().sum(dim=(2, 3)).mean(dim=1))
    return torch.stack(each).sum(dim=0)
