"""Ways to edit one real image by text, each with its own copy of the same weights."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from papers.ddpm_noise_space import official
from sfumato.api import Model
from sfumato.bench.contenders import Contender, LeditsPP, SDEdit, Task
from sfumato.images import pad_to_grid, read_image, to_tensor, to_uint8
from sfumato.models.load import load_model


class Sfumato:
    """This package through its Python interface: edit-friendly inversion, all noise maps, batches over timesteps."""

    exact = False

    def __init__(self, task: Task) -> None:
        self.task = task
        network = load_model(task.folder, task.device)
        self.model, self.unet = Model(network), network.unet

    def invert(self) -> None:
        """All steps."""
        task = self.task
        self.inverted = self.model.invert(
            task.image,
            task.source,
            steps=task.steps,
            skip=task.skip,
            eta=1.0,
            source_strength=task.source_strength,
            seed=task.seed,
            exact=self.exact,
        )

    def edit(self) -> Image.Image:
        """From T - skip."""
        return self.inverted.edit(self.task.target, strength=self.task.strength, residual=False).images[0]

    def reconstruction_error(self) -> Tensor:
        """From T."""
        *_, last = self.inverted.reconstruct_steps()
        assert last.state.x_prev is not None
        return last.state.x_prev.double() - self.inverted.groups[0].inversion.x0.double()


class SfumatoExact(Sfumato):
    """The same, one timestep at a time: a guidance pair in one call, reconstruction to the last bit."""

    exact = True


class Sequential:
    """The authors' algorithm as their code runs it: two calls of one row for each guidance pair."""

    def __init__(self, task: Task) -> None:
        self.task, self.network = task, load_model(task.folder, task.device)
        self.unet = self.network.unet

    @torch.no_grad()
    def invert(self) -> None:
        """All steps."""
        task = self.task
        pixels, self.padding = pad_to_grid(to_tensor(read_image(task.image)), self.network.multiple)
        self.x0 = self.network.encode(pixels.to(task.device))
        guidance = self._guidance(task.source, task.source_strength)
        self.inversion = official.invert(guidance, self.x0, steps=task.steps, seed=task.seed)

    @torch.no_grad()
    def edit(self) -> Image.Image:
        """From T - skip."""
        guidance = self._guidance(self.task.target, self.task.strength)
        *_, last = official.replay(guidance, self.inversion, skip=self.task.skip)
        return Image.fromarray(to_uint8(self.network.decode(last)))

    def reconstruction_error(self) -> Tensor:
        """From T."""
        *_, last = official.replay(self._guidance(self.task.source, self.task.source_strength), self.inversion)
        return last.double() - self.x0.double()

    def _guidance(self, prompt: str, strength: float) -> official.Guidance:
        condition, negative = self.network.condition(prompt), self.network.condition("")
        return official.Guidance(self.network, condition, negative, strength)


CONTENDERS: dict[str, Callable[[Task], Contender]] = {
    "sfumato": Sfumato,
    "sfumato, exact": SfumatoExact,
    "plain sequential loop": Sequential,
    "diffusers LEDITS++": LeditsPP,
    "diffusers img2img": SDEdit,
}
