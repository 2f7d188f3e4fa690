"""Checks of the arguments of the Python API, which are made before the network is evaluated."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sfumato.api.prompts import check_texts, check_used
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.images.limits import LARGEST_SIDE
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read
from sfumato.options.defaults import GUIDANCE_SCALES, defaults_of, scaled_skip
from sfumato.options.option import Stage
from sfumato.options.params import Params, check_names, options_of

Chosen = TypeVar("Chosen", bound=Params)
_FIXED = {
    "steps": "the number of steps",
    "num_inference_steps": "the number of steps",
    "seed": "the seed",
    "resolution": "the resolution",
    "tiles": "the use of tiles",
}
"""Options of the inversion that an edit cannot change, in addition to those of its method."""


def as_list(value: Any) -> list[Any]:
    """Convert a list, a tuple or a single value to a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def spread(values: Sequence[Any], count: int, name: str) -> list[Any]:
    """Return one value per image: a single value is repeated `count` times, `count` values are returned unchanged.

    Args:
        values: 1 or `count` values.
        count: number of images.
        name: name of a value in error messages.

    Raises:
        BadInput: the number of values is neither 1 nor `count`.
    """
    if len(values) not in (1, count):
        raise BadInput(f"Give one {name} for all {count} images or one for each, not {len(values)}.")
    return list(values) * count if len(values) == 1 else list(values)


def check_seeds(seeds: Sequence[Any]) -> list[int]:
    """Check that all seeds are non-negative integers and return them as a list.

    Raises:
        BadInput: a seed is not an integer of at least 0.
    """
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise BadInput(f"seed must be an integer of at least 0, not {seed!r}.")
    return list(seeds)


def check_batch(batch: int | None) -> None:
    """Check `batch`, the maximum number of rows per forward pass: an integer of at least 1, or None for the default.

    Raises:
        BadInput: `batch` has any other value.
    """
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise BadInput(f"batch must be an integer of at least 1, not {batch!r}.")


def check_shifts(shifts: Any) -> None:
    """Check that `shifts` is a list of `sfumato.core.shift.Shift` objects.

    Raises:
        BadInput: `shifts` has any other value.
    """
    if not isinstance(shifts, Sequence):
        raise BadInput(f"shifts must be a list of sfumato.core.shift.Shift, not {shifts!r}.")
    for shift in shifts:
        if not isinstance(shift, Shift):
            raise BadInput(f"shifts must be objects of sfumato.core.shift.Shift, not {shift!r}.")


def check_prompts(network: DiffusionModel, prompts: Sequence[Any], name: str, *, empty: bool) -> list[str]:
    """Check prompts against the model and return them; for a model without text input, empty strings.

    Args:
        network: the model.
        prompts: one string per image.
        name: name of a prompt in error messages, e.g. "target prompt".
        empty: whether an empty prompt is allowed.

    Raises:
        BadInput: a prompt is not a string, is empty, exceeds the context of the text encoder or has no words; or a
            prompt is given for a model without text input.
    """
    check_texts(prompts, name, empty=empty, takes_text=network.takes_text, model=network.name)
    for text_encoder in network.text_encoders:
        text_encoder.tokenize(prompts)
        for prompt in prompts:
            if prompt.strip() and not text_encoder.read(prompt).words:
                raise BadInput(f'The {name} "{prompt}" has no words for this model: describe the image in words.')
    return [prompt if network.takes_text else "" for prompt in prompts]


def check_run(
    network: DiffusionModel,
    params: Params,
    sizes: Iterable[tuple[int, int]],
    sources: Sequence[str],
    targets: Sequence[str],
) -> None:
    """Check that parameters fit the model, the images and their prompts, e.g. that the prompts contain given words.

    Args:
        network: the model.
        params: parameters of a method.
        sizes: (height, width) of the latents of every image.
        sources: source prompts.
        targets: target prompts.

    Raises:
        BadInput: as `Params.check_run`.
    """
    found = read(network.text_encoders, [*sources, *targets]) if network.text_encoders else ()
    pairs = list(zip(found[: len(sources)], found[len(sources) :], strict=True))
    for size in dict.fromkeys(sizes):
        params.check_run(network, size, pairs)


def check_fixed(options: Mapping[str, Any], params: Params) -> None:
    """Check that the options of an edit do not contain options of the inversion.

    Args:
        options: options of the caller.
        params: parameters of the inversion.

    Raises:
        BadInput: they do.
    """
    known = dict.fromkeys(options_of(type(params), "invert"), "it") | _FIXED
    for name in options:
        if name in known:
            raise BadInput(
                f"{name}: {known[name]} was fixed at inversion; leave {name} out, or invert the image again with it."
            )


def given(options: Mapping[str, Any], **named: Any) -> dict[str, Any]:
    """Add the named options that are not None to `options`."""
    return {**options, **{name: value for name, value in named.items() if value is not None}}


def resolve(
    network: DiffusionModel,
    params: type[Chosen],
    given: Mapping[str, Any],
    *,
    stages: tuple[Stage, ...],
    section: str,
    what: str,
) -> Chosen:
    """Determine the parameters of a method and check them.

    Options of the caller take precedence over defaults of the model folder, and these over defaults of the method.

    Args:
        network: the model.
        params: class of the method's parameters.
        given: options of the caller.
        stages: stages whose options the call accepts.
        section: section of `sfumato.json` in the model folder with defaults for the method.
        what: name of the method in error messages.

    Raises:
        BadInput: an option is unknown, a value is out of range, or a guidance scale is not 1 for a model without text
            input.
    """
    check_names(given, params, stages, what)
    defaults = defaults_of(params, given, network.settings.get(section, {}))
    if not network.takes_text:
        defaults |= {name: 1.0 for name in GUIDANCE_SCALES if name in defaults}
    values = scaled_skip(defaults | dict(given), defaults, given)
    resolved = params(**values)
    check_params(network, resolved)
    resolved.read_files()
    return resolved


def revise(network: DiffusionModel, params: Params, given: Mapping[str, Any], what: str) -> Params:
    """Return a copy of the parameters of an inversion, which are checked, with options of the stage "edit" replaced.

    Files that have changed since the parameters were created are read again.

    Raises:
        BadInput: as `resolve`; or an option or its file is another one than in the inversion, which was computed with
            it (`Params.inverts_with`).
    """
    check_names(given, type(params), ("edit",), what)
    revised = dataclasses.replace(params, **given)
    if given:
        check_params(network, revised)
    if revised == params:
        params.read_files()  # those of an inversion that was opened from a file have not been read
        if revised.hashes == params.hashes:
            return params  # the same object, which contains what it has read
    revised.read_files()
    for name in params.inverts_with:
        if (new := getattr(revised, name)) != (old := getattr(params, name)):
            raise BadInput(f"The image was inverted with {name} = {old!r}: to edit it with {new!r}, invert it again.")
        if revised.hashes.get(new) != params.hashes.get(old):
            raise BadInput(
                f"{printable(old)} was changed after the image was inverted with it: invert the image again."
            )
    return revised


def check_negative(
    network: DiffusionModel,
    uses_negative: Callable[[float], bool],
    negative_prompt: Any,
    guidance_scales: Sequence[float],
) -> None:
    """Check that the model can tokenise a negative prompt and that it has an effect at these guidance scales.

    Args:
        network: the model.
        uses_negative: returns whether a negative prompt has an effect at a guidance scale.
        negative_prompt: the negative prompt; may be empty.
        guidance_scales: guidance scale of every image.

    Raises:
        BadInput: as `check_prompts`; or the negative prompt has no effect for any image.
    """
    check_prompts(network, [negative_prompt], "negative prompt", empty=True)
    check_used(negative_prompt, uses_negative, guidance_scales)


def check_params(network: DiffusionModel, params: Params) -> None:
    """Check ranges, the number of steps against the schedule, and the method and guidance scales against the model.

    Raises:
        BadInput: a value is out of range, there are more steps than the schedule allows, or the method or a guidance
            scale requires text input, which the model lacks.
    """
    params.check()
    if params.needs_text and not network.takes_text:
        raise BadInput(
            f"{network.name or 'This model'} has no text input, which the method needs: choose another method."
        )
    network.schedule.timesteps(params.steps)  # type: ignore[attr-defined]
    for name in GUIDANCE_SCALES:
        if not network.takes_text and getattr(params, name, 1.0) != 1:
            raise BadInput(f"{name} must be 1 for a model without text input, not {getattr(params, name)}.")


def height_and_width(network: DiffusionModel, size: Any) -> tuple[int, int]:
    """Return (height, width) in pixels of a generated image.

    Args:
        network: the model.
        size: (width, height), the side of a square, or None for the model's native size.

    Raises:
        BadInput: `size` has any other value.
    """
    if size is None:
        return network.native_size
    sides = as_list(size) * (1 if isinstance(size, (list, tuple)) else 2)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or max(sides) > LARGEST_SIDE:
        most = f"at most {LARGEST_SIDE}"
        raise BadInput(f"size must be (width, height) in pixels, or one side of a square, {most}, not {size!r:.100}.")
    return sides[1], sides[0]
