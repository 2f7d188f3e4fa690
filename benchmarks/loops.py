"""Reimplementations of the sampling loops of the official editing code.

They make the same network calls with the same batch sizes as the official code, but use the networks, schedules and
step arithmetic of sfumato, so that only the loop differs. The attention control itself (replacing maps and features) is
omitted; it requires no network evaluations and would only add time. Differences in the number of steps are also
removed: Plug-and-Play's code inverts with 1000 steps by default, independently of the number of steps of the edit, and
pix2pix-zero's inversion omits the first and the last step. pix2pix-zero's backward pass is included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from papers.ddpm_noise_space import official
from papers.ddpm_noise_space.official import SequentialInversion
from sfumato.core.condition import Condition
from sfumato.core.guidance import classifier_free
from sfumato.core.step import diffuse, mean, predict_x0, sigma, step
from sfumato.inversion import regularised
from sfumato.models.attention import RecordMaps
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.attention_guidance import CROSS, attention_loss

FOLLOW = 0.1
"""Step size of pix2pix-zero's cross-attention guidance for real images."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The settings of one edit; every condition has one row.

    Attributes:
        network: the network, without guidance.
        source: condition of the source prompt.
        target: condition of the target prompt.
        empty: condition of the empty prompt, for guidance.
        steps: number of steps of a complete run.
        skip: number of first (noisiest) steps that edits with noise maps skip; other edits start at T.
        source_guidance_scale: guidance scale of the source prompt.
        guidance_scale: guidance scale of the target prompt.
        seed: seed of all noise.
    """

    network: DiffusionModel
    source: Condition
    target: Condition
    empty: Condition
    steps: int
    skip: int
    source_guidance_scale: float
    guidance_scale: float
    seed: int = 0

    def start(self, inversion: SequentialInversion) -> int:
        """Index of the first step that the edit runs."""
        return self.skip if inversion.eta else 0


Recorded = TypeVar("Recorded")


@dataclass(frozen=True)
class Loop(Generic[Recorded]):
    """An official method: `invert` maps x_0 [1,c,h,w] to a recorded run, `edit` maps that to the edited x_0."""

    invert: Callable[[Scene, Tensor], Recorded]
    edit: Callable[[Scene, Recorded], Tensor]


def invert_edit_friendly(scene: Scene, x0: Tensor) -> SequentialInversion:
    """The authors' edit-friendly inversion: two calls of one row per step."""
    guidance = official.Guidance(scene.network, scene.source, scene.empty, scene.source_guidance_scale)
    return official.invert(guidance, x0, steps=scene.steps, seed=scene.seed)


@torch.no_grad()
def invert_ddim(scene: Scene, x0: Tensor) -> SequentialInversion:
    """DDIM inversion: one row per step, under the source prompt."""
    schedule = scene.network.schedule
    timesteps = schedule.timesteps(scene.steps)
    levels = [x0]
    for t, t_prev in reversed(list(zip(timesteps, schedule.previous(timesteps), strict=True))):
        eps = scene.network.predict(levels[0], t, scene.source)
        levels.insert(0, diffuse(predict_x0(levels[0], eps, schedule.abar(t_prev)), eps, schedule.abar(t)).to(x0.dtype))
    return _deterministic(torch.stack(levels), timesteps)


def invert_regularised(scene: Scene, x0: Tensor) -> SequentialInversion:
    """pix2pix-zero's inversion: one row per step, then 25 and 5 gradient steps on the predicted noise."""
    guided = classifier_free(scene.network, scene.empty, (1.0,))
    run = regularised.invert_regularised(
        guided, x0, scene.source, steps=scene.steps, seeds=[scene.seed], regulariser=regularised.OFFICIAL
    )
    states = list(run)
    levels = [states[0].x_prev, *(state.x_t for state in states)]
    return _deterministic(torch.stack(levels[::-1]), [state.t for state in reversed(states)])


def edit_friendly(scene: Scene, inversion: SequentialInversion) -> Tensor:
    """Edit-friendly edit: two calls of one row per step."""
    guidance = official.Guidance(scene.network, scene.target, scene.empty, scene.guidance_scale)
    *_, last = official.replay(guidance, inversion, skip=scene.skip)
    return last


@torch.no_grad()
def prompt_to_prompt_in_two_calls(scene: Scene, inversion: SequentialInversion) -> Tensor:
    """Prompt-to-Prompt, edit-friendly: one call of [source, target] with empty prompts and one with their prompts."""
    both, empty = Condition.cat([scene.source, scene.target]), scene.empty.repeat(2)
    guidance_scales = inversion.x.new_tensor([scene.source_guidance_scale, scene.guidance_scale]).reshape(-1, 1, 1, 1)
    guidance = official.Guidance(scene.network, both, empty, guidance_scales)
    x = inversion.x[scene.start(inversion)].repeat(2, 1, 1, 1)
    for i, t in _steps(scene, inversion):
        x = _stepped(scene, inversion, i, x, guidance.predict(x, t))
    return x[1:]


@torch.no_grad()
def prompt_to_prompt(scene: Scene, inversion: SequentialInversion) -> Tensor:
    """Prompt-to-Prompt: one call of four rows per step, [source, target] with empty and with their prompts."""
    rows = Condition.cat([scene.empty.repeat(2), scene.source, scene.target])
    x = inversion.x[scene.start(inversion)].repeat(2, 1, 1, 1)
    for i, t in _steps(scene, inversion):
        eps = _guided(scene.network.predict(x.repeat(2, 1, 1, 1), t, rows), scene.guidance_scale)
        x = _stepped(scene, inversion, i, x, eps)
    return x[1:]


@torch.no_grad()
def plug_and_play(scene: Scene, inversion: SequentialInversion) -> Tensor:
    """Plug-and-Play: one call of three rows per step, the source on its recorded latent and the guidance pair."""
    rows = Condition.cat([scene.source, scene.empty, scene.target])
    x = inversion.x[scene.start(inversion)]
    for i, t in _steps(scene, inversion):
        eps = scene.network.predict(torch.cat([inversion.x[i], x, x]), t, rows)
        x = _stepped(scene, inversion, i, x, _guided(eps[1:], scene.guidance_scale))
    return x


def pix2pix_zero(scene: Scene, inversion: SequentialInversion) -> Tensor:
    """pix2pix-zero: a run with batch size 2 that records all maps, then in every step two calls with batch size 2.

    The first of these calls is differentiated. Both rows of the guidance pair are moved towards their maps of the first
    run; x_t continues from the unconditional row.
    """
    source, target = (Condition.cat([scene.empty, each]) for each in (scene.source, scene.target))
    references = _reference_maps(scene, inversion, source)
    x = inversion.x[scene.start(inversion)]
    for (i, t), reference in zip(_steps(scene, inversion), references, strict=True):
        pair = followed(scene.network, x.repeat(2, 1, 1, 1), t, target, reference)
        with torch.no_grad():
            eps = _guided(scene.network.predict(pair, t, target), scene.guidance_scale)
        x = _stepped(scene, inversion, i, pair[:1], eps)
    return x


def followed(network: DiffusionModel, x: Tensor, t: int, condition: Condition, reference: dict[str, Tensor]) -> Tensor:
    """x after one gradient step of every row towards the reference maps; the loss is the mean over rows."""
    record = RecordMaps(CROSS)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        network.predict(x, t, condition, [record])
        (gradient,) = torch.autograd.grad(attention_loss(record.maps, reference).mean(), x)
    return x.detach() - FOLLOW * gradient


@torch.no_grad()
def _reference_maps(scene: Scene, inversion: SequentialInversion, pair: Condition) -> list[dict[str, Tensor]]:
    """The maps of both rows of the guidance pair at every step of the reconstruction."""
    x, references = inversion.x[scene.start(inversion)], []
    for i, t in _steps(scene, inversion):
        record = RecordMaps(CROSS)
        eps = scene.network.predict(x.repeat(2, 1, 1, 1), t, pair, [record])
        references.append(record.maps)
        x = _stepped(scene, inversion, i, x, _guided(eps, scene.guidance_scale))
    return references


def _steps(scene: Scene, inversion: SequentialInversion) -> Iterator[tuple[int, int]]:
    """Index and timestep of the steps that the edit runs."""
    first = scene.start(inversion)
    yield from enumerate(inversion.timesteps[first:], first)


def _stepped(scene: Scene, inversion: SequentialInversion, i: int, x: Tensor, eps: Tensor) -> Tensor:
    """x_{t-1} of step i."""
    schedule, timesteps = scene.network.schedule, inversion.timesteps
    levels = schedule.abar(timesteps[i]), schedule.abar(schedule.previous(timesteps)[i])
    deviation = sigma(*levels, inversion.eta)
    return step(mean(x, eps, eps, *levels, deviation), inversion.z[i].expand_as(x), deviation).to(x.dtype)


def _guided(eps: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance of rows whose first half is unconditional."""
    negative, positive = eps.chunk(2)
    return negative + guidance_scale * (positive - negative)


def _deterministic(levels: Tensor, timesteps: list[int]) -> SequentialInversion:
    """A recorded run with noise maps of zero and eta = 0, from the latents x_T, ..., x_0."""
    return SequentialInversion(levels[:-1], torch.zeros_like(levels[:-1]), timesteps, 0.0)


EDIT_FRIENDLY = Loop(invert_edit_friendly, edit_friendly)
PROMPT_TO_PROMPT_EDIT_FRIENDLY = Loop(invert_edit_friendly, prompt_to_prompt_in_two_calls)
PROMPT_TO_PROMPT_DDIM = Loop(invert_ddim, prompt_to_prompt)
PLUG_AND_PLAY_DDIM = Loop(invert_ddim, plug_and_play)
PLUG_AND_PLAY_EDIT_FRIENDLY = Loop(invert_edit_friendly, plug_and_play)
PIX2PIX_ZERO = Loop(invert_regularised, pix2pix_zero)
