"""Reimplementations of the sampling loops of public guidance code.

They make the same network calls with the same batch sizes and backward passes as the public code, but use the networks,
energies, schedules and step arithmetic of sfumato, so that only the loop differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.api.generation_plan import job_of
from sfumato.core.condition import Condition
from sfumato.core.guidance import Guided, classifier_free
from sfumato.core.step import mean
from sfumato.editing.generate import GenerateParams, first_latent
from sfumato.editing.job import Job
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.shifts.energy.term import Term

THRESHOLDS = {0.0: 0.05, 0.2: 0.5, 0.4: 0.8}
"""Attention thresholds of Attend-and-Excite's iterative refinement, by the fraction of the run."""
MOST = 20
"""Largest number of refinements in a step."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The generation of one image.

    Attributes:
        network: the network, without guidance.
        prompt: prompt of the image.
        steps: number of steps.
        guidance_scale: guidance scale of the prompt.
        seed: seed of x_T.
    """

    network: DiffusionModel
    prompt: str
    steps: int
    guidance_scale: float
    seed: int = 0

    @property
    def params(self) -> GenerateParams:
        """The parameters of the run."""
        return GenerateParams(steps=self.steps, guidance_scale=self.guidance_scale)

    def guided(self) -> Guided:
        """Classifier-free guidance with the empty prompt."""
        return classifier_free(self.network, self.conditions()[1], [self.guidance_scale])

    def conditions(self) -> tuple[Condition, Condition]:
        """Conditions of the prompt and of the empty prompt."""
        size = self.network.native_size
        return self.network.condition(self.prompt, size=size), self.network.condition("", size=size)

    def job(self) -> Job:
        """The `Job` from which methods build their energy terms."""
        shape = self.network.latent_shape(*self.network.native_size)
        return job_of(self.guided(), shape, self.conditions()[0], self.params, [self.seed])

    def start(self) -> Tensor:
        """x_T, [1,c,h,w]."""
        shape = self.network.latent_shape(*self.network.native_size)
        return first_latent(self.guided(), shape, [self.seed], self.network.device)


Terms = Callable[[Job], Sequence[Term]]
"""Function that builds the energy terms for a job."""


class Loop:
    """Base class of the loops, for one image.

    Args:
        scene: the settings of the generation.
        terms: builds the energy terms.
    """

    def __init__(self, scene: Scene, terms: Terms) -> None:
        self.scene, self.terms = scene, terms(scene.job())
        self.condition, self.empty = scene.conditions()
        self.both = Condition.cat([self.empty, self.condition])

    def run(self) -> Tensor:
        """Run the loop; returns the latent x_0."""
        raise NotImplementedError

    def cfg(self, x: Tensor, t: int) -> Tensor:
        """The noise prediction with guidance: one call with batch size 2."""
        e, c = self.scene.network.predict(x.repeat(2, 1, 1, 1), t, self.both).chunk(2)
        return e + self.scene.guidance_scale * (c - e)

    def energy(self, x: Tensor, t: int, terms: Sequence[Term]) -> Tensor:
        """The sum of energy terms at a latent that requires gradients: one call with batch size 1, under the prompt."""
        measured = [term.measure(None) for term in terms]  # type: ignore[arg-type]
        with torch.enable_grad():
            eps = self.scene.network.predict(x, t, self.condition, [tap for each in measured for tap in each.taps])
            return torch.stack([each.value(x, eps) for each in measured]).sum()

    def steps(self) -> list[tuple[int, int, int]]:
        """(i, t, t_prev) of all steps."""
        timesteps = self.scene.network.schedule.timesteps(self.scene.steps)
        return list(zip(range(len(timesteps)), timesteps, self.scene.network.schedule.previous(timesteps), strict=True))

    def step(self, x: Tensor, eps: Tensor, t: int, t_prev: int) -> Tensor:
        """A DDIM step."""
        schedule = self.scene.network.schedule
        return mean(x, eps, eps, schedule.abar(t), schedule.abar(t_prev), 0.0).to(x.dtype)


class Notebook(Loop):
    """Self-Guidance's notebook: a run that records the original, then a run differentiated through both rows."""

    @torch.no_grad()
    def run(self) -> Tensor:
        """Two runs; the first half of the second is guided."""
        for guided in (False, True):
            x = self.scene.start()
            for i, t, t_prev in self.steps():
                eps = self.cfg(x, t) if not (guided and i < self.scene.steps / 2) else self.guided_noise(x, t)
                x = self.step(x, eps, t, t_prev)
        return x

    def guided_noise(self, x: Tensor, t: int) -> Tensor:
        """The noise prediction with guidance plus the energy gradient, from one differentiated call of two rows."""
        scene, x = self.scene, x.detach().requires_grad_()
        measured = [term.measure(None) for term in self.terms]  # type: ignore[arg-type]
        both = Condition.join({"negative": self.empty, "target": self.condition})
        with torch.enable_grad():
            taps = [tap for each in measured for tap in each.taps]
            e, c = scene.network.predict(x.repeat(2, 1, 1, 1), t, both, taps).chunk(2)
            value = torch.stack([each.value(x, c) for each in measured]).sum()
            gradient = torch.autograd.grad(value, x)[0]
        return (e + scene.guidance_scale * (c - e) + gradient).detach()


class AttendAndExcite(Loop):
    """Attend-and-Excite: in every step one row under the prompt and the guidance pair; in guided steps a backward pass.

    In steps with a threshold, the authors' code (`_perform_iterative_refinement_step`) evaluates one row before every
    refinement and two further rows, in separate calls, after it, whose predictions are not used. It then evaluates one
    row at the refined latent. The threshold is compared with the loss before the update, so there is one more
    refinement after the one that reached the threshold.
    """

    size = 20.0

    @torch.no_grad()
    def run(self) -> Tensor:
        """Run the loop; the first half of the steps is guided."""
        x, steps = self.scene.start(), self.scene.steps
        for i, t, t_prev in self.steps():
            scale = self.size * (1 - i / (2 * max(1, steps - 1))) ** 0.5
            x, loss = self.at(x, t)
            due = [a for share, a in THRESHOLDS.items() if round(share * steps) == i]
            if due and float(loss) > 1 - max(due):
                x, loss = self.refined(x, t, 1 - max(due), scale)
            if i < steps / 2:
                x = x - scale * torch.autograd.grad(loss, x)[0]
            x = self.step(x, self.cfg(x, t), t, t_prev)
        return x

    def refined(self, x: Tensor, t: int, wanted: float, scale: float) -> tuple[Tensor, Tensor]:
        """The latent after refinements until the loss is `wanted`, and its loss."""
        for _ in range(MOST):
            x, loss = self.at(x, t)
            x = x - scale * torch.autograd.grad(loss, x)[0]
            for condition in (self.empty, self.condition):
                self.scene.network.predict(x, t, condition)
            if float(loss) <= wanted:
                break
        return self.at(x, t)

    def at(self, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The latent, which requires gradients, and its loss."""
        x = x.detach().requires_grad_()
        return x, self.energy(x, t, self.terms)


class OneByOne(Loop):
    """Separate guidance functions, as in scripts that chain them: one forward and backward pass for each energy."""

    @torch.no_grad()
    def run(self) -> Tensor:
        """Run the loop; in the first half of the steps, every energy in turn changes the predicted noise."""
        x, steps = self.scene.start(), self.scene.steps
        for i, t, t_prev in self.steps():
            eps = self.cfg(x, t)
            if i < steps / 2:
                for term in self.terms:
                    x = x.detach().requires_grad_()
                    gradient = torch.autograd.grad(self.energy(x, t, [term]), x)[0]
                    eps = eps + gradient / gradient.square().mean().sqrt().clamp(min=1e-12)
            x = self.step(x, eps, t, t_prev)
        return x
