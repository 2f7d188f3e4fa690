"""The implementations of text-guided editing of one real image that the benchmarks compare."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.loops import EDIT_FRIENDLY, Loop, Scene
from papers.ddpm_noise_space import official
from sfumato.api import Model
from sfumato.bench.contenders import Contender, LeditsPP, SDEdit, Task
from sfumato.images import pad_to_grid, read_image, to_tensor, to_uint8
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model


class Ours:
    """A method of this package through its Python interface.

    Args:
        task: the edit; the method uses its steps and guidance scale.
        network: the model.
        method: name of the method.
        options: other options of the method.
    """

    def __init__(self, task: Task, network: DiffusionModel, method: str, **options: Any) -> None:
        self.task, self.method, self.options = task, method, options
        self.model, self.unet = Model(network), network.unet

    def invert(self) -> None:
        """Invert all steps."""
        task = self.task
        self.inverted = self.model.invert(
            task.image, task.source, method=self.method, steps=task.steps, seed=task.seed, **self.options
        )

    def edit(self) -> Image.Image:
        """Edit, starting at step T - skip."""
        return self.inverted.edit(self.task.target, guidance_scale=self.task.guidance_scale, residual=False).images[0]


class Sfumato(Ours):
    """Edit-friendly inversion with all noise maps, in batches over timesteps."""

    exact = False

    def __init__(self, task: Task) -> None:
        options = {
            "skip": task.skip,
            "eta": 1.0,
            "source_guidance_scale": task.source_guidance_scale,
            "exact": self.exact,
        }
        super().__init__(task, load_model(task.folder, task.device), "edit-friendly", **options)

    def reconstruction_error(self) -> Tensor:
        """x_0 replayed from T minus x_0 as encoded, float64 [1,c,h,w]."""
        *_, last = self.inverted.reconstruct_steps()
        assert last.state.x_prev is not None
        return last.state.x_prev.double() - self.inverted.groups[0].inversion.x0.double()


class SfumatoExact(Sfumato):
    """As `Sfumato` with `exact`: one timestep and guidance pair per call, reconstruction up to one rounding error."""

    exact = True


class Official:
    """The loop of an official implementation, on a network of this package."""

    def __init__(self, task: Task, network: DiffusionModel, loop: Loop[Any]) -> None:
        self.task, self.network, self.unet, self.loop = task, network, network.unet, loop

    @torch.no_grad()
    def invert(self) -> None:
        """Encode the image and invert all steps."""
        task = self.task
        pixels, _ = pad_to_grid(to_tensor(read_image(task.image)), self.network.multiple)
        self.x0 = self.network.encode(pixels.to(task.device))
        source, target, empty = (self.network.condition(prompt) for prompt in (task.source, task.target, ""))
        self.scene = Scene(
            self.network,
            source,
            target,
            empty,
            steps=task.steps,
            skip=task.skip,
            source_guidance_scale=task.source_guidance_scale,
            guidance_scale=task.guidance_scale,
            seed=task.seed,
        )
        self.inversion = self.loop.invert(self.scene, self.x0)

    @torch.no_grad()
    def edit(self) -> Image.Image:
        """Edit, starting at step T - skip or T (see `Scene`), and decode."""
        return Image.fromarray(to_uint8(self.network.decode(self.loop.edit(self.scene, self.inversion))))


class Sequential(Official):
    """The edit-friendly authors' loop: two calls of one row for each guidance pair."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, load_model(task.folder, task.device), EDIT_FRIENDLY)

    def reconstruction_error(self) -> Tensor:
        """x_0 replayed from T minus x_0 as encoded, float64 [1,c,h,w]."""
        scene = self.scene
        guidance = official.Guidance(scene.network, scene.source, scene.empty, scene.source_guidance_scale)
        *_, last = official.replay(guidance, self.inversion)
        return last.double() - self.x0.double()


CONTENDERS: dict[str, Callable[[Task], Contender]] = {
    "sfumato": Sfumato,
    "sfumato, exact": SfumatoExact,
    "plain sequential loop": Sequential,
    "diffusers LEDITS++": LeditsPP,
    "diffusers img2img": SDEdit,
}
