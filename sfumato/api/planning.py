"""Plan edits and generations with all their arguments; implementation of `Model.plan` and `plan_generation`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sfumato.api.arguments import as_list, given
from sfumato.api.edit_plan import plan_edit
from sfumato.api.extra import read_extra
from sfumato.api.generation_plan import plan_images
from sfumato.api.loaded import Loaded
from sfumato.api.named import Named, as_named, name_of, options_in
from sfumato.api.plan import Generation, Plan, with_masks
from sfumato.api.resolution import Resolution
from sfumato.api.source_plan import DEFAULT_METHOD, plan_sources, tiled
from sfumato.api.words_of_diffusers import renamed
from sfumato.core.shift import Shift
from sfumato.editing.registry import METHODS
from sfumato.errors import BadInput
from sfumato.images import MAX_PIXELS
from sfumato.options.params import Params, options_of


def plan(
    model: Loaded,
    images: Any,
    source: str | Sequence[str] = "",
    target: str | Sequence[str] = "",
    *,
    maps: Tensor | None = None,
    labels: int | Sequence[Any] | Tensor | None = None,
    tokens: Tensor | None = None,
    target_maps: Tensor | None = None,
    target_labels: int | Sequence[Any] | Tensor | None = None,
    target_tokens: Tensor | None = None,
    methods: str | Sequence[Named] = DEFAULT_METHOD,
    shifts: Sequence[Shift] = (),
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
    guidance_scale: float | Sequence[float] | None = None,
    mask: Any = None,
    mask_words: str = "",
    mask_difference: bool = False,
    mask_threshold: float | None = None,
    residual: bool = True,
    check: bool = False,
    negative_prompt: str = "",
    **options: Any,
) -> Plan:
    """Plan an inversion and an edit: read all files and check all arguments. `plan.run()` runs it.

    Only text encoders are evaluated. The arguments images, maps, labels, tokens, seed, batch, max_pixels,
    resolution, tiles, steps, eta, source_guidance_scale and exact are those of `invert_steps`; arguments that are
    not listed below are those of `Inverted.edit_steps`.

    Args:
        images: as for `invert_steps`.
        source: source prompts, one for all or one per image; may be empty.
        target: target prompts, as for `Inverted.edit_steps`.
        target_maps: `maps` of `Inverted.edit_steps`; by default those of the inversion, as for the next two.
        target_labels: `labels` of `Inverted.edit_steps`.
        target_tokens: `tokens` of `Inverted.edit_steps`.
        methods: name of a method, or a list as for `Inverted.edit_steps`; the first method determines the
            inversion, and so do its parameters if they are complete.
        options: other options of the inversion and of the run; if `methods` is a single name, also options of its
            edit.

    Returns:
        A plan, which can be run or pickled.

    Raises:
        BadInput: an argument is invalid; the message gives the allowed values.
    """
    run = {"steps": steps, "eta": eta, "source_guidance_scale": source_guidance_scale, "exact": exact}
    options = renamed(given(options, **run, skip=skip), "plan")
    several = [] if isinstance(methods, str) else as_named(methods)
    first = methods if isinstance(methods, str) else name_of(several[0]) if several else DEFAULT_METHOD
    known = METHODS.find(first).params
    later = {name: options[name] for name in options if several and name not in options_of(known, "invert")}
    inverting_with = _inverting_with({n: v for n, v in options.items() if n not in later}, several)
    parts = read_extra(model.network, maps, labels, tokens)
    evaluated = tiled(model, resolution) if tiles else model
    sources = plan_sources(evaluated, images, source, parts, first, seed, batch, max_pixels, resolution, inverting_with)
    edit: dict[str, Any] = {
        "shifts": shifts,
        "guidance_scale": guidance_scale,
        "mask": mask,
        "mask_words": mask_words,
        "mask_difference": mask_difference,
        "mask_threshold": mask_threshold,
        "residual": residual,
        "check": check,
        "negative_prompt": negative_prompt,
    }
    chosen = None if isinstance(methods, str) else several
    of_target: dict[str, Any] = {"maps": target_maps, "labels": target_labels, "tokens": target_tokens}
    planned = plan_edit(sources, target, methods=chosen, options=later, **of_target, **edit)
    request: dict[str, Any] = {"source": source, "target": target, "methods": methods, "seed": seed, "batch": batch}
    request |= {"images": sources.images if len(as_list(images)) > 1 else sources.images[0]}
    request |= {"resolution": resolution, "tiles": tiles}
    extra = {"maps": maps, "labels": labels, "tokens": tokens}
    extra |= {f"target_{name}": value for name, value in of_target.items()}
    request |= {name: part.cpu() if isinstance(part, Tensor) else part for name, part in extra.items()}
    return with_masks(Plan(sources, planned, request | edit | options))


def _inverting_with(options: Mapping[str, Any], several: Sequence[Named]) -> Mapping[str, Any] | Params:
    """The options of the inversion, or the complete parameters of the first method. Raises BadInput for both."""
    complete = options_in(several[0]) if several else {}
    if not isinstance(complete, Params):
        return options
    for name in options:
        raise BadInput(f"The parameters of {name_of(several[0])} are complete: set {name} in them.")
    return complete


def plan_generation(
    model: Loaded,
    prompts: str | Sequence[str] = "",
    *,
    seed: int | Sequence[int] = 0,
    size: int | tuple[int, int] | None = None,
    negative_prompt: str = "",
    maps: Tensor | None = None,
    labels: int | Sequence[Any] | Tensor | None = None,
    tokens: Tensor | None = None,
    methods: str | Sequence[Named] = (),
    shifts: Sequence[Shift] = (),
    batch: int | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    eta: float | None = None,
    **options: Any,
) -> Generation:
    """Plan a generation of images from prompts: check all arguments. `plan.run()` runs it.

    Only text encoders are evaluated.

    Args:
        prompts: prompts of the images, one or several.
        seed: one for all or one per image; a single prompt with several seeds gives several images.
        size: (width, height) in pixels, or the side of a square; by default that of the maps, or the model's
            native size.
        negative_prompt: the negative prompt of classifier-free guidance.
        maps: [n,c,h,w] with the height and width of the latents, for a network with additional input channels
            (inpainting, InstructPix2Pix); n is 1 or the number of images; see `sfumato.models.maps`.
        labels: class labels for a class-conditional network, one for all or one per image; see
            `sfumato.models.class_labels`.
        tokens: [n,k,d] for a network with cross-attention and without text encoder; n is 1 or the number of
            images.
        methods: name of a method that supports generated images, or a list of names and pairs (name,
            {option: value}) or (name, parameters), as for `Inverted.edit_steps`. Complete parameters have the steps and
            the guidance_scale of the generation, and skip = 0.
        shifts: shifts of the reverse process (`sfumato.core.shift.Shift`), applied after those of the methods.
        batch: maximum number of rows per forward pass; by default 2 to 64, depending on the size of the latents.
        steps: number of steps, 1 to 1000; also as num_inference_steps. By default that of the model.
        guidance_scale: 0 to 100; 1 is no guidance. By default that of the model.
        eta: noise of a step, from 0 (DDIM) to 1 (DDPM). By default that of the model.
        options: only num_inference_steps, an alternative name of steps.

    Returns:
        A plan, which can be run or pickled.

    Raises:
        BadInput: an argument is invalid; the message gives the allowed values.
    """
    options = renamed(given(options, steps=steps, guidance_scale=guidance_scale, eta=eta), "generate")
    request: dict[str, Any] = {"seed": seed, "size": size, "negative_prompt": negative_prompt, "batch": batch}
    request |= {"maps": maps, "labels": labels, "tokens": tokens, "methods": methods, "shifts": shifts}
    planned = plan_images(model, prompts, options=options, **request)
    request = {name: part.cpu() if isinstance(part, Tensor) else part for name, part in request.items()}
    return Generation(model, planned, {"prompts": prompts, **request, **options})
