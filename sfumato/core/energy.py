"""Energies: scalars of a prediction, and of what the network computes on the way, whose gradient moves the latent.

All energies of a step share one forward and one backward pass of the network without guidance; every shift gets the
gradient of its own energy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.rows import TARGET
from sfumato.core.state import Denoiser, StepState, check_finite

Value: TypeAlias = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]], Float[Tensor, " b"]]
"""From x_t and its predicted noise to the energy of every image; both have gradient history."""


@dataclass(frozen=True, eq=False)
class Energy:
    """What a shift wants the gradient of, in one step.

    Attributes:
        value: the energy; it may use what `taps` recorded.
        taps: read features or attention maps with gradient history; they see the network's own, before other taps
            replace any.
        under: name of the condition of the prediction: that of the run, or of a term of the guidance.
        name: for messages, as in "the gradient of cross-attention guidance".
    """

    value: Value
    taps: Sequence[Any] = ()
    under: str = TARGET
    name: str = "an energy"


def gradients(
    network: Denoiser,
    state: StepState,
    energies: Mapping[int, Energy],
    conditions: Mapping[str, Any],
) -> tuple[dict[int, Float[Tensor, "b c h w"]], dict[str, Float[Tensor, "b c h w"]]]:
    """Gradients of all energies at x_t, by their keys, and the predictions by the names of their conditions.

    Args:
        network: without guidance.
        state: the step; its taps act in the pass, behind those of the energies.
        energies: what to differentiate.
        conditions: what predictions the energies are about, by name, one row per image each.

    Raises:
        NonFinite: a gradient holds NaN or infinity.
    """
    count, taps = len(conditions), [tap for energy in energies.values() for tap in energy.taps]
    names = list(conditions)
    only = names == [TARGET]
    joined = conditions[TARGET] if only else type(conditions[names[0]]).join(conditions)
    with torch.enable_grad():
        x = state.x_t.detach().requires_grad_()
        eps = network.predict(x.repeat(count, 1, 1, 1), state.t, joined, [*taps, *state.taps])
        predictions = dict(zip(names, eps.chunk(count), strict=True))
        values = [energy.value(x, predictions[energy.under]) for energy in energies.values()]
        found = _differentiated(values, x)
        if not all(bool(torch.isfinite(gradient).all()) for gradient in found):
            # in the joint pass one that is not finite spoils all
            found = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in values]
    for energy, gradient in zip(energies.values(), found, strict=True):
        check_finite(gradient, f"the gradient of {energy.name}", state.i, state.steps, state.t)
    return (
        dict(zip(energies, found, strict=True)),
        {name: prediction.detach() for name, prediction in predictions.items()},
    )


def _differentiated(
    values: Sequence[Float[Tensor, " b"]], x: Float[Tensor, "b c h w"]
) -> Sequence[Float[Tensor, "b c h w"]]:
    """The gradient of every energy, in one backward pass: rows do not see one another."""
    if len(values) == 1:
        return torch.autograd.grad(values[0].sum(), x, retain_graph=True)
    every = torch.stack(list(values))
    one_each = torch.eye(len(values), dtype=every.dtype, device=every.device)[:, :, None].expand(-1, -1, len(x))
    return torch.autograd.grad(every, x, one_each, retain_graph=True, is_grads_batched=True)[0].unbind()
