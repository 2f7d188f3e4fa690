"""Read the source images of an edit and plan their inversion; implementation of `Model.invert_steps`."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sfumato.api.arguments import as_list, check_batch, check_prompts, check_seeds, given, spread
from sfumato.api.extra import extra_condition, read_extra
from sfumato.api.group import padded_size
from sfumato.api.inverted import Inverted
from sfumato.api.inverting import inverting, outlines
from sfumato.api.loaded import Loaded
from sfumato.api.named import check_class
from sfumato.api.parameters import check_and_read, resolve_of
from sfumato.api.resolution import Resolution, at_resolution, check_resolution
from sfumato.api.run import Run
from sfumato.api.words_of_diffusers import renamed
from sfumato.editing.registry import METHODS, Method
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS, LoadedImage, read_image
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.tiles import TiledModel
from sfumato.options.params import Params

DEFAULT_METHOD = "edit-friendly"
"""Default method."""


def tiled(model: Loaded, resolution: Resolution) -> Loaded:
    """A shallow copy of the model whose network is evaluated in tiles. Raises BadInput for the native resolution."""
    if resolution in (None, "native"):
        raise BadInput("tiles are for images that are edited at more than the native size: give resolution full.")
    copied = copy.copy(model)
    copied.network = TiledModel.of(model.network)
    return copied


def params_of(network: DiffusionModel, method: Method, options: Mapping[str, Any] | Params) -> Params:
    """The parameters of a method: complete ones, or options with the defaults of the model.

    Raises:
        BadInput: an option is unknown or invalid, or complete parameters are of another class.
    """
    if not isinstance(options, Params):
        return resolve_of(network, method, options, f"method {method.name}")
    check_class(options, method)
    check_and_read(network, options)
    return options


def plan_sources(
    model: Loaded,
    images: Any,
    prompts: Any,
    parts: Mapping[str, Tensor],
    method: str,
    seed: Any,
    batch: int | None,
    max_pixels: int,
    resolution: Resolution,
    options: Mapping[str, Any] | Params,
) -> Inverted:
    """Read the images, check all arguments of their inversion, and plan it. Raises BadInput.

    `parts` are the maps, labels and tokens, from `read_extra`; `options` are those of the method, or its complete
    parameters.
    """
    chosen = METHODS.find(method)
    check_batch(batch)
    check_resolution(model.network, resolution)
    params = params_of(model.network, chosen, options)
    seeds = check_seeds(as_list(seed))
    texts = check_prompts(model.network, as_list(prompts), "source prompt", empty=not chosen.params.needs_text)
    loaded = [each if isinstance(each, LoadedImage) else read_image(each, max_pixels) for each in as_list(images)]
    if not loaded:
        raise BadInput("Give at least one image.")
    loaded = at_resolution(model.network, resolution, loaded)
    count = max(map(len, (seeds, texts, *parts.values()))) if len(loaded) == 1 else len(loaded)
    loaded = loaded * count if len(loaded) == 1 else loaded
    texts, seeds = spread(texts, count, "source prompt"), spread(seeds, count, "seed")
    sizes = [model.network.latent_shape(*padded_size(model.network, each.size))[1:] for each in loaded]
    extra = extra_condition(model.network, parts, count, sizes)
    groups = outlines(model, chosen, params, loaded, texts, seeds, batch, resolution, extra)
    return Inverted(model, chosen, params, groups, {}, batch)


def invert_steps(
    model: Loaded,
    images: Any,
    prompts: str | Sequence[str] = "",
    *,
    maps: Tensor | None = None,
    labels: int | Sequence[Any] | Tensor | None = None,
    tokens: Tensor | None = None,
    method: str = DEFAULT_METHOD,
    seed: int | Sequence[int] = 0,
    batch: int | None = None,
    max_pixels: int = MAX_PIXELS,
    resolution: Resolution = None,
    tiles: bool = False,
    steps: int | None = None,
    eta: float | None = None,
    source_guidance_scale: float | None = None,
    exact: bool | None = None,
    skip: int | None = None,
    guidance_scale: float | None = None,
    **options: Any,
) -> Run[Inverted]:
    """Invert images under their source prompts, yielding after every step.

    All arguments are checked before the first step. `invert` has the same arguments and returns the result.

    Args:
        images: a path, bytes, Pillow image or uint8 array [h,w,3], or a list of them, of any sizes.
        prompts: source prompts, which describe the images; one for all or one per image. They may be empty, except
            for methods that require text.
        maps: [n,c,h,w] with the height and width of the latents, for a network with additional input channels
            (inpainting, InstructPix2Pix); n is 1 or the number of images, which must have one size; see
            `sfumato.models.maps`.
        labels: class labels of the images for a class-conditional network, one for all or one per image; see
            `sfumato.models.class_labels`.
        tokens: [n,k,d] for a network with cross-attention and without text encoder; n is 1 or the number of
            images.
        method: name of the method to invert for, see `sfumato.methods`; it determines the inversion and the
            defaults of the edit.
        seed: one for all or one per image; one image with several seeds is inverted several times.
        batch: maximum number of rows per forward pass; by default 2 to 64, depending on the size of the latents.
        max_pixels: width x height of the largest image that is read.
        resolution: size at which the images are edited: "native", about the number of pixels of the model's
            training images; "full", the size of the image; or an integer, the side of a square with about as many
            pixels. Results always have the size of the image: a change that was computed at another size is
            upsampled, and the details of the image are preserved (`sfumato.images.upsampling`). By default "native"
            for images with more than twice the pixels of the training images, otherwise "full".
        tiles: evaluate the network in overlapping tiles of the size of the training images, with resolution "full"
            or an integer (`sfumato.models.tiles`); not supported by methods that read features or attention maps.
        steps: number of steps of the run (num_inference_steps in diffusers). For this and the following options,
            see `sfumato methods METHOD`; not every method has all of them. The defaults are those of the model
            folder or of the method.
        eta: noise of a step, from 0 (DDIM) to 1 (DDPM).
        source_guidance_scale: guidance scale of the source prompt.
        exact: evaluate one timestep at a time, which is slower and makes the reconstruction more exact.
        skip: default of the edits: number of first (noisiest) steps to skip.
        guidance_scale: default of the edits: guidance scale of the target prompt.
        options: other options of the method.

    Returns:
        A run: iterate over it for progress, then read `result`.

    Raises:
        BadInput: an argument is invalid; the message gives the allowed values.
    """
    run = {"steps": steps, "eta": eta, "source_guidance_scale": source_guidance_scale, "exact": exact}
    options = renamed(given(options, **run, skip=skip, guidance_scale=guidance_scale), "invert")
    parts = read_extra(model.network, maps, labels, tokens)
    evaluated = tiled(model, resolution) if tiles else model
    sources = plan_sources(evaluated, images, prompts, parts, method, seed, batch, max_pixels, resolution, options)
    return Run(model.network, inverting(sources))
