"""Baselines: diffusers pipelines for text-guided editing of one real image, with the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DPMSolverMultistepScheduler, LEditsPPPipelineStableDiffusion, StableDiffusionImg2ImgPipeline
from PIL import Image
from torch import Tensor

from sfumato.models.folder import load_parts
from sfumato.models.index import read_index


@dataclass(frozen=True)
class Task:
    """One edit, with the parameters of all baselines.

    Attributes:
        folder: a Stable Diffusion pipeline folder.
        image: RGB image, at the size in pixels at which it is edited.
        source: prompt of the image.
        target: prompt describing the edited image.
        steps: number of steps of a complete run.
        skip: number of first (noisiest) steps that the edit skips.
        source_guidance_scale: guidance scale of the source prompt.
        guidance_scale: guidance scale of the target prompt.
        device: device of the networks.
        seed: seed of all noise.
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
    """Protocol of a baseline, which inverts the image, then edits it. Both calls can be repeated."""

    task: Task
    unet: torch.nn.Module

    def invert(self) -> None:
        """Encode and invert the image."""

    def edit(self) -> Image.Image:
        """Edit and decode; returns the edited image."""

    def reconstruction_error(self) -> Tensor | None:
        """x_0 of a replay under the source prompt minus the encoded x_0; None if nothing is inverted."""


class LeditsPP:
    """diffusers' LEDITS++ with the second-order SDE DPM-Solver++; inverts only the T - skip steps that it replays.

    The pipeline of diffusers 0.42 is used without changes. Its `invert` uses the two embeddings of `encode_prompt` in
    the wrong order, so that guidance goes from the source prompt to the empty prompt, eps(source) + s (eps("") -
    eps(source)). At a source guidance scale of 1 the image is therefore inverted under the empty prompt, under which
    the replay also starts. The other solver, DDIM, raises an error, and so do cross-attention masks on 16 x 16 latents.
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
        """Invert the steps that the edit replays."""
        task = self.task
        replayed = task.steps - task.skip
        self.pipe.invert(
            task.image,
            source_prompt=task.source,
            # with a scale of 1 or less diffusers does not embed the empty prompt, and then fails without the embedding
            source_guidance_scale=max(task.source_guidance_scale, 1 + 1e-6),
            num_inversion_steps=replayed,
            skip=_share_before(task.steps, task.skip),
            generator=torch.Generator(task.device).manual_seed(task.seed),
        )

    def edit(self) -> Image.Image:
        """Edit with guidance in the tenth of the image where it is largest, the default of LEDITS++."""
        return self._replay(self.task.target, self.task.guidance_scale, edit_threshold=0.9).images[0]

    def reconstruction_error(self) -> Tensor:
        """Error of a replay from T - skip with guidance in the complete image, as in the inversion.

        `invert` of diffusers 0.42 exchanges the source prompt and the empty prompt, so it guides away from the source.
        Both orders are replayed; the one with the smaller maximum error is returned.
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
    """diffusers' image-to-image pipeline: adds noise, then denoises with the target prompt; nothing is inverted."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pipe: Any = StableDiffusionImg2ImgPipeline(**_parts(task.folder)).to(task.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.unet = self.pipe.unet

    def invert(self) -> None:
        """Do nothing."""

    def edit(self) -> Image.Image:
        """Edit from T - skip."""
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
        """None: nothing is inverted."""


# Added to fractions because diffusers rounds down: a floating-point error must not remove a step.
_GUARD = 1e-9


def _share_before(steps: int, skip: int) -> float:
    """The `skip` with which LEDITS++ runs int(n * (1 + skip)) = `steps` steps in total, for n = steps - skip."""
    return steps / (steps - skip) - 1 + _GUARD


def _share_kept(steps: int, skip: int) -> float:
    """The strength, at most 1, with which image-to-image runs int(steps * strength) = steps - skip steps."""
    return min(1.0, (steps - skip) / steps + _GUARD)


def _parts(folder: Path) -> dict[str, Any]:
    """The components of a diffusers pipeline. sfumato reads the folder, and executes no code from it."""
    bare = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return load_parts(folder, read_index(folder)) | bare


@contextmanager
def counted(network: torch.nn.Module) -> Iterator[list[int]]:
    """Record the batch size of every call of the network within a `with` block."""
    rows: list[int] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        hook.remove()
