"""Interpolation between two real images: every point of a path between their latents is denoised to a frame."""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.api.arguments import as_list, check_batch, check_prompts, given
from sfumato.api.group import Group, at_once, decoded, encode, guided, padded_size
from sfumato.api.inverting import outlines
from sfumato.api.loaded import Loaded
from sfumato.api.parameters import resolve
from sfumato.api.path_arguments import check_measured, check_one_size
from sfumato.api.report import file_name, made_with, parameters, unit
from sfumato.api.result import Result
from sfumato.api.run import Progress, Run, following
from sfumato.api.words_of_diffusers import renamed
from sfumato.core.condition import Condition
from sfumato.core.loop import reverse
from sfumato.core.state import StepEnd
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.geometry import BottleneckMap
from sfumato.geometry.basis import check_n, largest_rank
from sfumato.geometry.jacobian import CHUNK
from sfumato.geometry.paths import (
    KINDS,
    SEGMENTS,
    PathKind,
    TangentSpace,
    path,
    path_lengths,
    perceptual_lengths,
)
from sfumato.images import MAX_PIXELS, LoadedImage, read_image, to_uint8
from sfumato.images.loaded_image import image_fingerprint, uncomposite
from sfumato.inversion import invert_ddim
from sfumato.metrics import SHIPPED, PerceptualDistance, load_perceptual
from sfumato.metrics import lpips as perceptual_distance
from sfumato.models.checks import check_prompts_suffice
from sfumato.options.inversions import DDIMParams

RANK = 20
"""Default dimension of the tangent spaces of a geodesic."""


@dataclass(frozen=True)
class PathSettings:
    """A path between two latents and its sampling.

    Attributes:
        kind: "lerp", "slerp" or "geodesic".
        frames: number of images including both ends, 2 to 1000.
        time: fraction of the run that remains at the timestep of the latents, above 0 and at most 1; smaller values
            preserve more of both images.
        rank: dimension of the tangent spaces of a geodesic and of the semantic lengths.
        chunk: maximum number of rows per pass of the Jacobian.
        perceptual: network of the perceptual lengths; None to measure no lengths.

    Raises:
        BadInput: a value is out of range.
    """

    kind: PathKind = "slerp"
    frames: int = SEGMENTS
    time: float = 1.0
    rank: int = RANK
    chunk: int = CHUNK
    perceptual: PerceptualDistance | None = None

    @property
    def metric(self) -> bool:
        """Whether the metric of the bottleneck is computed: for a geodesic or for lengths."""
        return self.kind == "geodesic" or self.perceptual is not None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"path must be one of {', '.join(KINDS)}, not {self.kind!r}.")
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or not 2 <= self.frames <= 1000:
            raise BadInput(f"frames must be an integer between 2 and 1000, not {self.frames!r}.")
        if isinstance(self.time, bool) or not isinstance(self.time, int | float) or not 0 < self.time <= 1:
            raise BadInput(f"time must be above 0 and at most 1, not {self.time!r}.")


def interpolate_steps(
    model: Loaded,
    first: Any,
    second: Any,
    prompts: Sequence[str] = ("", ""),
    *,
    kind: PathKind = "slerp",
    frames: int = SEGMENTS,
    time: float = 1.0,
    rank: int | None = None,
    measure: bool = False,
    lpips: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    batch: int | None = None,
    max_pixels: int = MAX_PIXELS,
    steps: int | None = None,
    refine: int | None = None,
    source_guidance_scale: float | None = None,
    guidance_scale: float = 1.0,
    **options: Any,
) -> Run[Result]:
    """Interpolate between two images of the same size, yielding after every step.

    All arguments are checked before the first step. `interpolate` has the same arguments and returns the result.

    Both images are inverted with DDIM, and a path is computed from one x_t to the other (Park et al., arXiv 2302.12469,
    section 4.2). Every point of the path is denoised under a linear interpolation of the two prompt embeddings with the
    same fraction. The metric of geodesics and lengths is computed under the mean of the two prompt embeddings for the
    complete path, so that lengths do not depend on the interpolation of the prompts. Alpha channels are interpolated
    linearly; the frames are opaque if both images are.

    Args:
        model: a loaded model.
        first: a path, bytes or Pillow image.
        second: the same, of the same size.
        prompts: prompts of the first and the second image; may be empty.
        kind: "lerp", "slerp" or "geodesic".
        frames: number of images including both ends, 2 to 1000.
        time: fraction of the run that remains at the timestep of the latents, above 0 and at most 1.
        rank: dimension of the tangent spaces of a geodesic and of the semantic lengths; by default 20, or half the
            rank of the bottleneck if that is less (at full rank the semantic length is zero).
        measure: whether to report the lengths of all segments: semantic, bottleneck, latent and perceptual.
        lpips: network of the perceptual length, see `sfumato.metrics.load_perceptual`; the bundled one by default.
        chunk: maximum number of rows per pass of the Jacobian, which limits the memory; by default 16.
        batch: maximum number of rows per forward pass.
        max_pixels: width x height of the largest image that is read.
        steps: number of steps of the inversion and of the run; by default that of the model for the method ddim, as
            for the next two.
        refine: fixed-point iterations of every step of the inversion.
        source_guidance_scale: guidance scale of the inversion.
        guidance_scale: guidance scale of the run.
        options: only num_inference_steps, an alternative name of steps.

    Returns:
        A run; its result has one image per frame.

    Raises:
        BadInput: an argument is invalid; raised before the network is evaluated.
    """
    way = PathSettings(kind, frames, time, chunk=CHUNK if chunk is None else chunk)
    check_measured(kind, measure, rank, chunk, lpips)
    network, method = model.network, METHODS.find("ddim")
    check_prompts_suffice(network, "interpolate")
    check_batch(batch)
    if "skip" in options:
        raise BadInput("Interpolation has no skip: time sets where in the run the latents are taken.")
    run = {"steps": steps, "refine": refine, "source_guidance_scale": source_guidance_scale}
    options = renamed(given(options, **run), "interpolate") | {"guidance_scale": guidance_scale, "skip": 0}
    params = resolve(network, DDIMParams, options, stages=("invert", "edit"), section="ddim", what="interpolation")
    texts = check_prompts(network, as_list(prompts), "prompt", empty=True)
    if len(texts) != 2:
        raise BadInput(f"Give two prompts, one for each image, not {len(texts)}.")
    images = [read_image(each, max_pixels) for each in (first, second)]
    check_one_size([each.size for each in images])
    if kind == "geodesic" or measure:
        f = BottleneckMap(network, 0, chunk=way.chunk)
        latent = torch.empty(1, *network.latent_shape(*padded_size(network, images[0].size)), device="meta")
        way = replace(way, rank=min(RANK, max(1, largest_rank(f, latent) // 2)) if rank is None else rank)
        check_n(f, latent, way.rank, "rank")
    if measure:
        way = replace(way, perceptual=load_perceptual(os.fspath(lpips or SHIPPED)).to(network.device))
    return Run(network, _interpolating(model, method, params, images, texts, way, batch))


def _interpolating(
    model: Loaded,
    method: Any,
    params: DDIMParams,
    images: list[LoadedImage],
    prompts: list[str],
    way: PathSettings,
    batch: int | None,
) -> Generator[Progress, None, Result]:
    groups = outlines(model, method, params, images, prompts, [0, 0], batch)
    skip = min(round((1 - way.time) * params.steps), params.steps - 1)
    ends, conditions = yield from _ends(model, groups, params, params.steps - skip)
    timesteps = groups[0].inversion.timesteps[skip:]
    network, size = model.network, images[0].size
    f = None
    if way.metric:
        f = BottleneckMap(network, timesteps[0], _between(*conditions, 0.5), chunk=way.chunk)
    spaces: list[TangentSpace] = []
    keep = None if way.perceptual is None else spaces.append
    latents = torch.cat(list(path(way.kind, *ends, segments=way.frames - 1, f=f, n=way.rank, callback=keep)))
    shares = torch.linspace(0, 1, way.frames).tolist()
    largest = at_once(latents.shape, batch)
    starts = range(0, way.frames, largest)
    pixels: list[NDArray[np.uint8]] = []
    for n, start in enumerate(starts):
        x = latents[start : start + largest]
        condition = Condition.cat([_between(*conditions, share) for share in shares[start : start + largest]])
        guidance = guided(network, [params.guidance_scale] * len(x), padded_size(network, images[0].size))
        work = reverse(guidance, x, timesteps, condition, eta=0.0, noise_maps=lambda state: None)
        outputs = range(start, start + len(x))
        last = yield from following(work, "interpolate", n, len(starts), outputs, network, size)
        pixels += [to_uint8(each) for each in decoded(network, last, size)]
    sources = _with_alpha(images, pixels, shares)
    about = {**parameters(params), "path": way.kind, "frames": way.frames, "time": way.time}
    about |= {"rank": way.rank} if way.metric else {}
    report = {"parameters": {**about, "prompts": prompts}, "metrics": {}}
    if f is not None and way.perceptual is not None:
        report["metrics"] = _lengths(f, latents, way.rank, spaces)
        report["metrics"]["perceptual_length"] = _perceptual(pixels, way.perceptual)
    named = [{"name": file_name(image.name), "sha256": image_fingerprint(image)} for image in images]
    made = {"operation": "interpolate", **made_with(network), "images": named, **about, "prompts": prompts}
    recipes = [{**made, "share": share} for share in shares]
    return Result(pixels, sources, recipes, report)


def _with_alpha(
    images: Sequence[LoadedImage], pixels: Sequence[NDArray[np.uint8]], shares: Sequence[float]
) -> list[LoadedImage]:
    """The frames with interpolated alpha channels; [] if both images are opaque."""
    if all(image.alpha is None for image in images):
        return []
    background = images[0].background
    opaque: NDArray[np.uint8] = np.full(images[0].rgb.shape[:2], 255, np.uint8)
    first, second = (opaque if image.alpha is None else image.alpha for image in images)
    frames = []
    for rgb, share in zip(pixels, shares, strict=True):
        alpha: NDArray[np.uint8] = np.rint((1 - share) * first + share * second).astype(np.uint8)
        native = uncomposite(rgb, alpha, background)
        frames.append(LoadedImage(rgb, alpha, native, None, "RGBA", "a frame", "", background))
    return frames


def _lengths(f: BottleneckMap, latents: Tensor, rank: int, known: Sequence[TangentSpace]) -> dict[str, list[float]]:
    """Length of every segment, by metric: semantic, bottleneck and latent."""
    found = path_lengths(f, iter(latents[:, None]), rank, known)
    return {f"{each.name}_length": getattr(found, each.name)[0].tolist() for each in fields(found)}


def _perceptual(pixels: list[NDArray[np.uint8]], network: PerceptualDistance) -> list[float]:
    """Perceptual length of every segment, computed for one pair of frames at a time to save memory."""

    def distance(one: Tensor, other: Tensor) -> Tensor:
        return perceptual_distance(network, one, other)

    return [float(perceptual_lengths(torch.cat([unit(a), unit(b)]), distance)) for a, b in pairwise(pixels)]


def _ends(
    model: Loaded, groups: list[Group], params: DDIMParams, steps: int
) -> Generator[Progress, None, tuple[tuple[Tensor, Tensor], tuple[Condition, Condition]]]:
    """x_t after the first `steps` steps of the inversion, and the condition, of both images.

    The images may be in one group or in two.
    """
    latents: dict[int, Tensor] = {}
    conditions: dict[int, Condition] = {}
    for n, group in enumerate(groups):
        guidance = model.guided(group.inversion.guidance_scales, padded_size(group.network, group.size))
        x0 = encode(group.network, group.images)
        inversion = invert_ddim(guidance, x0, group.condition, steps=params.steps, refine=params.refine)
        work = _first(inversion, steps)
        x = yield from following(work, "invert", n, len(groups), group.indices, group.network, group.size, steps)
        for row, index in enumerate(group.indices):
            latents[index], conditions[index] = x[row : row + 1], group.condition[row]
    return (latents[0], latents[1]), (conditions[0], conditions[1])


def _first(inversion: Iterator[StepEnd], steps: int) -> Generator[StepEnd, None, Tensor]:
    """Yield the first steps of an inversion and return x_t of the last one."""
    for state in islice(inversion, steps):
        yield state
    return state.x_t


def _between(first: Condition, second: Condition, share: float) -> Condition:
    """Linear interpolation of the embeddings of two prompts; the token mask is the union of both."""

    def mixed(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.lerp(a, b, share)

    seen = first.token_mask
    if seen is not None and second.token_mask is not None:
        seen = seen | second.token_mask
    tokens, pooled = mixed(first.tokens, second.tokens), mixed(first.pooled, second.pooled)
    return replace(first, tokens=tokens, pooled=pooled, token_mask=seen, prompts=())
