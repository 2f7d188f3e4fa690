"""The sampling loop, used for generation, editing and replay with different noise maps and shifts.

The loop is a generator that yields after every step. Progress bars, previews, cancellation and video therefore need no
callbacks: the caller iterates over the steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.energy import gradients
from sfumato.core.guidance import Guided, Term
from sfumato.core.noise import gaussian_batch
from sfumato.core.path import check_path, downwards
from sfumato.core.rows import TARGET
from sfumato.core.shift import PLACES, Shift, checked
from sfumato.core.state import Denoiser, StepEnd, StepMean, StepNoise, StepState, check_finite, extend
from sfumato.core.step import add_noise_between, combine, direction, noise_in, predict_x0, sigma, step
from sfumato.errors import BadInput

NoiseMaps: TypeAlias = Callable[[StepState], Tensor | None]
"""Returns z_t [b,c,h,w] for a step, or None for a step that adds no noise."""


def reverse(
    network: Denoiser,
    x: Float[Tensor, "b c h w"],
    timesteps: Sequence[int],
    condition: Condition,
    *,
    eta: float,
    noise_maps: NoiseMaps,
    shifts: Sequence[Shift] = (),
    path: Sequence[int] = (),
    seeds: Sequence[int] = (),
    source: Mapping[int, Float[Tensor, "b c h w"]] | None = None,
) -> Iterator[StepEnd]:
    """Run the reverse process from x at timesteps[0] to x_0, yielding every finished step.

    Args:
        network: predicts the noise; a `Guided` network, or one without guidance.
        x: latents at timesteps[0], [b,c,h,w]; every x_{t-1} has their dtype.
        timesteps: in descending order, from `Schedule.timesteps`, complete or without the first ones.
        condition: condition of the run, one row per image, passed to the network at every step.
        eta: 0 (DDIM) to 1 (DDPM).
        noise_maps: returns z_t; `fresh_noise` to sample, `recorded` to replay.
        shifts: the shifts to apply, in order.
        path: the levels in the order in which they are visited (`sfumato.core.path`); each once by default.
        seeds: one per image, for the noise that is added where the path returns to a noisier level; 0 by default.
        source: latents of the inverted image by timestep, x_0 under -1, for shifts that use them.

    Raises:
        BadInput: a shift replaces what another one replaces or reads in the same step, or the path is invalid (raised
            before any evaluation); or a hook of a shift returns anything but a tensor of the latents' shape.
        NonFinite: the predicted noise, a gradient, the result of a hook or the new latent contains NaN or infinity.
    """
    guided = network if isinstance(network, Guided) else Guided(network, (Term(TARGET, None),))
    steps = len(timesteps)
    levels = [*timesteps, *guided.schedule.previous(timesteps)[-1:]]
    path = list(path) or downwards(steps)
    check_path(path, steps)
    if found := conflict(shifts, steps):
        raise BadInput(f"{found.sentence(*(type(each).__name__ for each in found.shifts))}; use one of them.")
    shifts = [shift.for_run() for shift in shifts]
    abars, visits = [guided.schedule.abar(t) for t in levels], [0] * steps
    for i, after in pairwise(path):
        if after <= i:
            x = _back_up(x, seeds, levels[after], abars[i], abars[after], visits[after])
            continue
        state = StepState(
            i=i, steps=steps, t=levels[i], t_prev=levels[i + 1], abar=abars[i], abar_prev=abars[i + 1],
            sigma=sigma(abars[i], abars[i + 1], eta), network=guided, x_t=x, condition=condition, visit=visits[i],
            source=source or {},
        )  # fmt: skip
        finished = _advance(guided, state, noise_maps, shifts)
        yield finished
        x, visits[i] = finished.x_prev, visits[i] + 1


@torch.no_grad()
def _advance(guided: Guided, state: StepState, noise_maps: NoiseMaps, shifts: Sequence[Shift]) -> StepEnd:
    """Run one step: compute each quantity and pass it to the hooks of all shifts."""
    for shift in shifts:
        state = replace(state, condition=shift.condition(state, state.condition))
    for shift in shifts:
        guided = shift.guidance(state, guided)
    state = replace(state, network=guided)
    state = replace(state, taps=tuple(tap for shift in shifts if (tap := shift.taps(state)) is not None))
    for shift in shifts:
        x = shift.before_gradients(state, state.x_t)
        state = replace(state, x_t=checked(state, shift, "before_gradients", state.x_t, x))
    state, known = _with_gradients(guided, state, shifts)
    while (x := _refined(state, shifts)) is not state.x_t:
        refined = replace(state, x_t=x, refinements=state.refinements + 1)
        state, known = _with_gradients(guided, refined, shifts)
    evaluated = state.x_t
    for shift in shifts:
        x = shift.latent(state, state.x_t)
        state = replace(state, x_t=checked(state, shift, "latent", state.x_t, x))

    known = known if state.x_t is evaluated else {}  # valid only if no shift moved x_t
    eps = guided.predict(state.x_t, state.t, state.condition, state.taps or None, known)
    check_finite(eps, "the predicted noise", state.i, state.steps, state.t)
    noise = extend(state, StepNoise, eps=eps)
    for shift in shifts:
        noise = replace(noise, eps=checked(state, shift, "noise", noise.eps, shift.noise(noise, noise.eps)))

    prediction = predict_x0(noise.x_t, _noise_of_prediction(guided, noise, shifts, list(known)), noise.abar)
    for shift in shifts:
        prediction = checked(state, shift, "prediction", prediction, shift.prediction(noise, prediction))
    towards = direction(noise_in(noise.x_t, noise.eps, noise.abar), noise.abar_prev, noise.sigma)
    mean = combine(prediction, towards, noise.abar_prev)
    landed = extend(noise, StepMean, x0_prediction=prediction, mean=mean)

    z = noise_maps(landed)
    for shift in shifts:
        given, z = z, shift.noise_map(landed, z)
        if z is not None:
            checked(state, shift, "noise_map", given, z)
    x_prev = step(landed.mean, z, landed.sigma).to(landed.x_t.dtype)
    check_finite(x_prev, "the latent x_{t-1}", landed.i, landed.steps, landed.t)
    return extend(landed, StepEnd, z=z, x_prev=x_prev)


def _with_gradients(
    guided: Guided, state: StepState, shifts: Sequence[Shift]
) -> tuple[StepState, dict[str, Float[Tensor, "b c h w"]]]:
    """The state with the gradients of all energies, and the predictions at x_t that they were computed from."""
    energies = {id(shift): energy for shift in shifts if (energy := shift.energy(state)) is not None}
    if not energies:
        return state, {}
    names = dict.fromkeys(energy.under for energy in energies.values())
    conditions = {name: state.condition if name == TARGET else guided.condition_of(name) for name in names}
    found, values, predictions = gradients(guided.network, state, energies, conditions)
    return replace(state, gradients=found, values=values), predictions


def _refined(state: StepState, shifts: Sequence[Shift]) -> Float[Tensor, "b c h w"]:
    """x_t after the `refine` hooks of all shifts; the same tensor if none of them changes it."""
    x = state.x_t
    for shift in shifts:
        x = checked(state, shift, "refine", x, shift.refine(state, x))
    return x


def _noise_of_prediction(
    guided: Guided, noise: StepNoise, shifts: Sequence[Shift], apart: Sequence[str]
) -> Float[Tensor, "b c h w"]:
    """The noise from which P_t is computed: eps, or that of a second evaluation with prediction taps (Asyrp).

    Conditions that were evaluated with gradients, `apart`, are again evaluated in a forward pass of their own, so that
    both passes can reuse the encoder half of the first evaluation.
    """
    taps = [tap for shift in shifts if (tap := shift.prediction_taps(noise)) is not None]
    if not taps:
        return noise.eps
    eps = guided.predict(noise.x_t, noise.t, noise.condition, [*noise.taps, *taps], apart=apart)
    check_finite(eps, "the noise of the prediction", noise.i, noise.steps, noise.t)
    for shift in shifts:
        eps = checked(noise, shift, "noise", eps, shift.noise(replace(noise, eps=eps), eps))
    return eps


def _back_up(
    x: Float[Tensor, "b c h w"], seeds: Sequence[int], t: int, abar: float, abar_above: float, visit: int
) -> Float[Tensor, "b c h w"]:
    """Add noise to x up to the noisier level of timestep t; the noise is a function of (seed, t, visit)."""
    noise = gaussian_batch(x.shape[1:], seeds or [0] * len(x), step=t, tag=f"back up {visit}", device=x.device)
    return add_noise_between(x, noise, abar, abar_above).to(x.dtype)


class Conflict(NamedTuple):
    """Two shifts that cannot be used in the same step.

    Attributes:
        shifts: the two shifts.
        name: the quantity that the first one replaces.
        read: whether the second one reads it; otherwise it replaces it, too.
    """

    shifts: tuple[Shift, Shift]
    name: str
    read: bool

    def sentence(self, one: str, other: str) -> str:
        """The conflict as the beginning of an error message, with the names of the two shifts."""
        verbs = f"{one} replaces and {other} reads" if self.read else f"{one} and {other} both replace"
        return f"{verbs} {self.name} in the same steps"


def conflict(shifts: Sequence[Shift], steps: int) -> Conflict | None:
    """Find two shifts that replace the same quantity in the same step, or one that reads what another one replaces.

    Returns:
        The first conflict, or None.
    """
    for i in range(steps):
        owners: dict[str, Shift] = {}
        for shift in shifts:
            for name in shift.replaces(i, steps):
                if name in owners and name != PLACES:  # several translations can be combined
                    return Conflict((owners[name], shift), name, read=False)
                owners[name] = shift
        for shift in shifts:
            for name in shift.reads(i, steps):
                if owners.get(name, shift) is not shift:
                    return Conflict((owners[name], shift), name, read=True)
    return None


def fresh_noise(seeds: Sequence[int], images: Sequence[int] | None = None) -> NoiseMaps:
    """Noise maps for sampling: standard normal z_t as a function of (seed, image, t, visit); None where sigma_t = 0.

    Args:
        seeds: one per image.
        images: index of every image in the user's list; 0 by default.
    """

    def draw(state: StepState) -> Tensor | None:
        if state.sigma == 0:
            return None
        tag = f"reverse {state.visit}" if state.visit else "reverse"
        return gaussian_batch(state.x_t.shape[1:], seeds, images, state.t, tag=tag, device=state.x_t.device)

    return draw


def recorded(z: Float[Tensor, "steps b c h w"] | None, seeds: Sequence[int] = ()) -> NoiseMaps:
    """Noise maps for a replay: the z_t of an inversion, z[i] for step i of the run.

    A step that is run again (see `sfumato.core.path`) uses fresh noise, a function of (seed, t, visit): x_t already
    contains z_t then, and adding it a second time would exceed the noise level of the timestep.

    Args:
        z: the noise maps; None for a deterministic inversion without residuals.
        seeds: one per image; 0 by default.
    """

    def replay(state: StepState) -> Tensor | None:
        if z is not None and state.visit and state.sigma > 0:
            return fresh_noise(seeds or [0] * len(state.x_t))(state)
        return None if z is None else z[state.i].to(state.x_t.device)

    return replay
