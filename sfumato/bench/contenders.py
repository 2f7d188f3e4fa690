"""Other ways to edit one real image by text: diffusers' own pipelines, on the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DPMSolverMultistepScheduler, LEditsPPPipelineStableDiffusion, StableDiffusionImg2ImgPipeline
from PIL import Image
from torch import Tensor

from sfumato.models.folder import load_parts, read_index


@dataclass(frozen=True)
class Task:
    """The edit that all of them make.

    Attributes:
        folder: a Stable Diffusion pipeline folder.
        image: RGB, at the size in pixels at which it is edited.
        source: the prompt of the image.
        target: the prompt of the edit.
        steps: number of steps of a whole run.
        skip: steps at the noisy end that the edit leaves out.
        source_guidance_scale: of the source prompt.
        guidance_scale: of the target prompt.
        device: where the networks are.
        seed: of all noise.
    """

    folder: Path
    image: Image.Image
    source: str
    target: str
    steps: int
    skip: int
    source_guidance_scale: float
    guidance_scale: float
    device: str = "cpu"
    seed: int = 0


class Contender(Protocol):
    """Inverts the image, then edits it; both can be repeated."""

    task: Task
    unet: torch.nn.Module

    def invert(self) -> None:
        """From the image to what the edit needs, encoding included."""

    def edit(self) -> Image.Image:
        """The edited image, decoding included."""

    def reconstruction_error(self) -> Tensor | None:
        """x_0 as replayed under the source prompt, minus x_0 as encoded; None where nothing is inverted."""


class LeditsPP:
    """diffusers' LEDITS++ with its second-order SDE DPM-Solver++; inverts only the T - skip steps that it will replay.

    Its other path, DDIM, fails in diffusers 0.42; so do its cross-attention masks on latents of 16 x 16.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        pipe: Any = LEditsPPPipelineStableDiffusion(**_parts(task.folder))
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(
            pipe.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        )
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe.to(task.device)
        self.unet = self.pipe.unet

    def invert(self) -> None:
        """The steps that the edit will replay."""
        task = self.task
        kept = task.steps - task.skip
        self.pipe.invert(
            task.image,
            source_prompt=task.source,
            # at 1 or less diffusers makes no embedding of the empty prompt, and then fails for want of it
            source_guidance_scale=max(task.source_guidance_scale, 1 + 1e-6),
            num_inversion_steps=kept,
            skip=_share_before(task.steps, task.skip),
            generator=torch.Generator(task.device).manual_seed(task.seed),
        )

    def edit(self) -> Image.Image:
        """Edit guidance where it is largest, LEDITS++'s own default share of a tenth of the image."""
        return self._replay(self.task.target, self.task.guidance_scale, edit_threshold=0.9).images[0]

    def reconstruction_error(self) -> Tensor:
        """From T - skip, guided everywhere as it was inverted.

        `invert` of diffusers 0.42 takes the source prompt for the empty one and the other way round, and so guides away
        from the source. Both orders are replayed, and the one that ends nearer counts.
        """
        x0, _ = self.pipe.encode_image(self.task.image, dtype=self.unet.dtype)
        source, scale = self.task.source, self.task.source_guidance_scale
        options = {"edit_threshold": 0.0, "output_type": "latent"}
        swapped = self._replay("", scale, negative_prompt=source, **options).images
        straight = self._replay(source, scale, **options).images
        return min((last.double() - x0.double() for last in (swapped, straight)), key=lambda e: float(e.abs().max()))

    def _replay(self, prompt: str, guidance_scale: float, **options: Any) -> Any:
        return self.pipe(
            editing_prompt=[prompt], edit_guidance_scale=guidance_scale, use_intersect_mask=False, **options
        )


class SDEdit:
    """diffusers' image-to-image pipeline: noise, then denoising under the target; nothing is inverted."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pipe: Any = StableDiffusionImg2ImgPipeline(**_parts(task.folder)).to(task.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.unet = self.pipe.unet

    def invert(self) -> None:
        """Nothing to do."""

    def edit(self) -> Image.Image:
        """From T - skip."""
        task = self.task
        return self.pipe(
            prompt=task.target,
            image=task.image,
            num_inference_steps=task.steps,
            strength=_share_kept(task.steps, task.skip),
            guidance_scale=task.guidance_scale,
            eta=1.0,
            generator=torch.Generator(task.device).manual_seed(task.seed),
        ).images[0]

    def reconstruction_error(self) -> None:
        """There is no inversion to replay."""


# The small number guards against diffusers' rounding down.
_GUARD = 1e-9


def _share_before(steps: int, skip: int) -> float:
    """The `skip` with which LEDITS++ runs int(kept * (1 + skip)) = `steps` steps in all, for kept = steps - skip."""
    return steps / (steps - skip) - 1 + _GUARD


def _share_kept(steps: int, skip: int) -> float:
    """The strength, at most 1, with which image-to-image runs int(steps * strength) = steps - skip steps."""
    return min(1.0, (steps - skip) / steps + _GUARD)


def _parts(folder: Path) -> dict[str, Any]:
    """What a pipeline of diffusers is made of; the folder is read by sfumato, which opens no foreign code."""
    bare = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return load_parts(folder, read_index(folder)) | bare


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of every call of the network within the block, one number per call."""
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        hook.remove()
