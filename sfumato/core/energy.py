"""Energies: differentiable scalar losses of a prediction, features or attention maps, used for guidance.

    g_k = grad_{x_t} E_k(x_t, eps(x_t, t, c_k))                 one energy E_k and one condition c_k per shift

All energies of a step share one forward and one backward pass of the network without guidance. Every shift receives the
gradient of the energy that it declared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.rows import TARGET
from sfumato.core.state import Denoiser, NetworkTap, StepState, check_finite

Value: TypeAlias = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]], Float[Tensor, " b"]]
"""Maps x_t and its predicted noise, both with gradient history, to one energy per image."""
SCALE = 2.0**10
"""Loss scale: factor of the energies in the backward pass, see `scaled_gradients`."""


@dataclass(frozen=True, eq=False)
class Energy:
    """The energy that a shift declares for one step.

    Attributes:
        value: the energy as a function of x_t and eps; it may use what `taps` recorded.
        taps: taps that record features or attention maps with gradient history. They read the values before other taps
            replace them.
        under: name of the condition under which the noise is predicted: that of the run, or of a guidance term.
        name: name in error messages, such as "the gradient of cross-attention guidance".
        parts: the summands of the energy with their names, for error messages.
    """

    value: Value
    taps: Sequence[NetworkTap] = ()
    under: str = TARGET
    name: str = "an energy"
    parts: Sequence[tuple[str, Value]] = ()


def gradients(
    network: Denoiser,
    state: StepState,
    energies: Mapping[int, Energy],
    conditions: Mapping[str, Condition],
) -> tuple[dict[int, Float[Tensor, "b c h w"]], dict[int, Float[Tensor, " b"]], dict[str, Float[Tensor, "b c h w"]]]:
    """Compute the gradients of all energies with respect to x_t.

    Args:
        network: the network without guidance.
        state: the step; its taps are installed in the same forward pass, after those of the energies.
        energies: the energies by any key, such as the id of their shift.
        conditions: the conditions of the predictions by name, each with one row per image.

    Returns:
        The gradients [b,c,h,w] and the values [b] by the keys of `energies`, and the predicted noises by the names of
        `conditions`, all detached.

    Raises:
        NonFinite: a predicted noise or a gradient contains NaN or infinity; the message names the energy and, if it has
            parts, the first part whose gradient is not finite.
    """
    count, taps = len(conditions), [tap for energy in energies.values() for tap in energy.taps]
    names = list(conditions)
    only = names == [TARGET]
    joined = conditions[TARGET] if only else Condition.join(conditions)
    with torch.enable_grad():
        x = state.x_t.detach().requires_grad_()
        eps = network.predict(x.repeat(count, 1, 1, 1), state.t, joined, [*taps, *state.taps])
        check_finite(eps, "the predicted noise", state.i, state.steps, state.t)
        predictions = dict(zip(names, eps.chunk(count), strict=True))
        values = [energy.value(x, predictions[energy.under]) for energy in energies.values()]
        found = _differentiated(values, x)
        if not all(bool(torch.isfinite(gradient).all()) for gradient in found):
            # one non-finite energy makes all gradients of the joint pass non-finite; differentiate each for the message
            found = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in values]
            for energy, gradient in zip(energies.values(), found, strict=True):
                _check(gradient, energy, x, predictions[energy.under], state)
    return (
        dict(zip(energies, found, strict=True)),
        {key: value.detach() for key, value in zip(energies, values, strict=True)},
        {name: prediction.detach() for name, prediction in predictions.items()},
    )


def _check(
    gradient: Float[Tensor, "b c h w"],
    energy: Energy,
    x: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    state: StepState,
) -> None:
    """Check the gradient of an energy; see `gradients` for the message."""
    if bool(torch.isfinite(gradient).all()):
        return
    for name, part in energy.parts:
        (own,) = torch.autograd.grad(
            part(x, eps).sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        check_finite(own, f"the gradient of {energy.name} ({name})", state.i, state.steps, state.t)
    check_finite(gradient, f"the gradient of {energy.name}", state.i, state.steps, state.t)


def _differentiated(
    values: Sequence[Float[Tensor, " b"]], x: Float[Tensor, "b c h w"]
) -> Sequence[Float[Tensor, "b c h w"]]:
    """Gradients of all energies in one backward pass.

    Rows are independent, so row b of d(sum_b' E[b']) / dx is dE[b] / dx[b]. Unit vector k of the batched backward pass
    selects energy k.
    """
    if len(values) == 1:
        return scaled_gradients(values[0].sum(), (x,))
    every = torch.stack(list(values))
    one_each = torch.eye(len(values), dtype=every.dtype, device=every.device)[:, :, None].expand(-1, -1, len(x))
    return scaled_gradients(every, (x,), one_each)[0].unbind()


def scaled_gradients(
    value: Float[Tensor, "..."], inputs: Sequence[Float[Tensor, "..."]], seeds: Float[Tensor, "n ..."] | None = None
) -> list[Float[Tensor, "..."]]:
    """Compute gradients with loss scaling: of `SCALE` times a value, divided by `SCALE`. The graph is retained.

    Gradients of means over many positions can be below the smallest float16 number and would underflow to 0 in a
    network in half precision. In float32 and float64 the factor, a power of 2, does not change the result. If a scaled
    gradient overflows, the gradients are computed again without the factor.

    Args:
        value: the tensor to differentiate.
        inputs: tensors with respect to which the gradients are computed; 0 for one that the value does not depend on.
        seeds: gradients with respect to `value` (grad_outputs) for a batched backward pass, one per result; None for a
            scalar value.
    """
    for factor in (SCALE, 1.0):
        found = torch.autograd.grad(
            value * factor,
            inputs,
            seeds,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=seeds is not None,
            materialize_grads=True,
        )
        found = [gradient / factor for gradient in found]
        if all(bool(torch.isfinite(gradient).all()) for gradient in found):
            break
    return found
