"""What callers give, checked and brought into one shape before any work."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sfumato.core.shift import Shift
from sfumato.errors import BadInput
from sfumato.methods.params import Params, Stage, check_names, defaults_of
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.text import read

Chosen = TypeVar("Chosen", bound=Params)
GUIDANCE_SCALES = ("guidance_scale", "source_guidance_scale")


def as_list(value: Any) -> list[Any]:
    """One thing or several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def spread(values: Sequence[Any], count: int, name: str) -> list[Any]:
    """One value for all, or one for each of `count`.

    Raises:
        BadInput: another number of them.
    """
    if len(values) not in (1, count):
        raise BadInput(f"Give one {name} for all {count} pictures or one for each, not {len(values)}.")
    return list(values) * count if len(values) == 1 else list(values)


def check_seeds(seeds: Sequence[Any]) -> list[int]:
    """Whole numbers.

    Raises:
        BadInput: something else.
    """
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise BadInput(f"seed must be an integer, not {seed!r}.")
    return list(seeds)


def check_batch(batch: int | None) -> None:
    """At least one row, or None.

    Raises:
        BadInput: something else.
    """
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise BadInput(f"batch must be an integer of at least 1, not {batch!r}.")


def check_shifts(shifts: Any) -> None:
    """Objects of `sfumato.core.shift.Shift`.

    Raises:
        BadInput: something else.
    """
    if not isinstance(shifts, Sequence):
        raise BadInput(f"shifts must be a list of sfumato.core.shift.Shift, not {shifts!r}.")
    for shift in shifts:
        if not isinstance(shift, Shift):
            raise BadInput(f"shifts must be objects of sfumato.core.shift.Shift, not {shift!r}.")


def check_prompts(network: DiffusionModel, prompts: Sequence[Any], name: str, *, empty: bool) -> list[str]:
    """Prompts that the model can read; `empty` allows the empty one.

    Raises:
        BadInput: not text, empty, longer than the model reads, nothing but the tokenizer's own marks, or text for a
            model without text input.
    """
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise BadInput(f"The {name} must be text, not {prompt!r}.")
        if network.takes_text and not empty and not prompt.strip():
            raise BadInput(f"The {name} is empty: say in a few words what the picture shall show.")
        if not network.takes_text and prompt.strip():
            raise BadInput(f"{network.name or 'This model'} has no text input: leave the {name} empty.")
    for text_encoder in network.text_encoders:
        text_encoder.tokenize(prompts)
        for prompt in prompts:
            if prompt.strip() and not text_encoder.read(prompt).words:
                raise BadInput(f'The {name} "{prompt}" has no words for this model: say what the picture shall show.')
    return [prompt if network.takes_text else "" for prompt in prompts]


def check_run(
    network: DiffusionModel,
    params: Params,
    sizes: Iterable[tuple[int, int]],
    sources: Sequence[str],
    targets: Sequence[str],
) -> None:
    """Parameters that go with the model, the pictures and their prompts: the words that they name are there, say.

    Args:
        network: the model.
        params: a method's.
        sizes: heights and widths of the latents.
        sources: what the pictures show.
        targets: what they shall show.

    Raises:
        BadInput: as `Params.check_run`.
    """
    found = read(network.text_encoders, [*sources, *targets]) if network.text_encoders else ()
    pairs = list(zip(found[: len(sources)], found[len(sources) :], strict=True))
    for size in dict.fromkeys(sizes):
        params.check_run(network, size, pairs)


def resolve(
    network: DiffusionModel,
    params: type[Chosen],
    given: Mapping[str, Any],
    *,
    stages: tuple[Stage, ...],
    section: str,
    what: str,
) -> Chosen:
    """A method's parameters: the caller's, else those of the model's folder, else the method's own.

    Raises:
        BadInput: an unknown option, a value out of range, or a guidance scale for a model without text.
    """
    check_names(given, params, stages, what)
    defaults = defaults_of(params, given, network.settings.get(section, {}))
    if not network.takes_text:
        defaults |= {name: 1.0 for name in GUIDANCE_SCALES if name in defaults}
    values = _scaled_skip(defaults | dict(given), defaults, given)
    resolved = params(**values)
    check_params(network, resolved)
    resolved.check_files()
    return resolved


def _scaled_skip(values: dict[str, Any], defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The default skip is a share of the default steps: another number of steps keeps the share."""
    steps = values.get("steps")
    if "skip" in values and "skip" not in given and isinstance(steps, int) and steps >= 1:
        values["skip"] = min(round(defaults["skip"] * steps / defaults["steps"]), steps - 1)
    return values


def revise(network: DiffusionModel, params: Params, given: Mapping[str, Any], what: str) -> Params:
    """The same parameters with other options of the edit.

    Raises:
        BadInput: as `resolve`.
    """
    check_names(given, type(params), ("edit",), what)
    revised = dataclasses.replace(params, **given)
    check_params(network, revised)
    if revised == params:
        return params  # with the files that it has read
    revised.check_files()
    return revised


def check_negative(
    network: DiffusionModel,
    uses_negative: Callable[[float], bool],
    negative_prompt: Any,
    guidance_scales: Sequence[float],
) -> None:
    """A negative prompt that the model can read, and that guidance at these scales does not cancel.

    Raises:
        BadInput: as `check_prompts`, or it would make no difference.
    """
    check_prompts(network, [negative_prompt], "negative prompt", empty=True)
    if negative_prompt.strip() and not any(map(uses_negative, guidance_scales)):
        raise BadInput("A negative prompt makes no difference at guidance scale 1: give another one, or leave it out.")


def check_params(network: DiffusionModel, params: Params) -> None:
    """Check ranges, the schedule's limit on steps, and whether the method and its guidance scales suit the model.

    Raises:
        BadInput: names the option and its range.
    """
    params.check()
    if params.needs_text and not network.takes_text:
        raise BadInput(f"{network.name or 'This model'} has no text input, which the method needs: choose another.")
    network.schedule.timesteps(params.steps)  # type: ignore[attr-defined]
    for name in GUIDANCE_SCALES:
        if not network.takes_text and getattr(params, name, 1.0) != 1:
            raise BadInput(f"{name} must be 1 for a model without text input, not {getattr(params, name)}.")


def height_and_width(network: DiffusionModel, size: Any) -> tuple[int, int]:
    """(height, width) of a new picture from what callers give as (width, height), one side, or None for native.

    Raises:
        BadInput: neither.
    """
    if size is None:
        return network.native_size
    sides = as_list(size) * (1 if isinstance(size, (list, tuple)) else 2)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise BadInput(f"size must be (width, height) in pixels, or one side of a square, not {size!r}.")
    return sides[1], sides[0]
