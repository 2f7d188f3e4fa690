"""Checks of the arguments of the Python API, which are made before the network is evaluated."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sfumato.api.prompts import check_texts, check_used
from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.images.limits import LARGEST_SIDE
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read
from sfumato.options.params import Params


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


def given(options: Mapping[str, Any], **named: Any) -> dict[str, Any]:
    """Add the named options that are not None to `options`."""
    return {**options, **{name: value for name, value in named.items() if value is not None}}


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
