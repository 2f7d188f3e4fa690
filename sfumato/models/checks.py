"""Checks of the inputs of a network, before it is evaluated."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule
from sfumato.errors import BadInput
from sfumato.models.class_labels import ClassLabels


class Expectations(Protocol):
    """Properties of a model that its inputs must fit."""

    name: str
    schedule: Schedule

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def latent_multiple(self) -> int:
        """Height and width of a latent must be multiples of this."""

    @property
    def map_channels(self) -> int:
        """Number of channels concatenated to the latent."""

    @property
    def class_labels(self) -> ClassLabels | None:
        """The class labels that the network takes, or None."""

    @property
    def token_width(self) -> int:
        """Dimension of the text embeddings that cross-attention takes; 0 without cross-attention."""

    @property
    def takes_text(self) -> bool:
        """Whether the model has a text encoder."""


def check_inputs(model: Expectations, x: Tensor, t: int | Tensor, cond: Condition) -> None:
    """Check that latents, timesteps and condition fit the network.

    Args:
        model: the network.
        x: latents, [b,c,h,w].
        t: timestep, one int or one per row.
        cond: condition, one row per latent.

    Raises:
        BadInput: something does not fit; the message describes the first problem.
    """
    for problem in _problems(model, x, t, cond):
        raise BadInput(problem)


def check_prompts_suffice(model: Expectations, call: str) -> None:
    """Check that a network takes latents, timesteps and prompts only.

    Args:
        model: the network.
        call: what has prompts only, for the message, e.g. "interpolate".

    Raises:
        BadInput: the network requires another input, which the message names.
    """
    for what in _beyond_prompts(model):
        raise BadInput(
            f"{model.name or 'This network'} takes {what}, which {call} does not provide: load {_instead(model)}."
        )


def _instead(model: Expectations) -> str:
    """The model to load instead of one with further inputs."""
    if model.map_channels and model.takes_text:
        return "the plain model without these channels, with --mask (in Python: mask=) to edit a part of an image"
    return "a model that does not take them"


def check_maps(model: Expectations, maps: Tensor | None, rows: int | None = None) -> None:
    """Check the maps that are concatenated to the latents; without `rows`, any number of rows is accepted.

    Raises:
        BadInput: maps are missing, not expected or of the wrong shape; the message gives the expected shape.
    """
    channels, name = model.map_channels, model.name or "This network"
    wanted = f"[{'rows' if rows is None else rows},{channels},h,w]"
    if maps is None:
        if channels:
            raise BadInput(
                f"{name} takes {_maps_in_words(model)}: give maps={wanted} in Python, or load {_instead(model)}."
            )
        return
    if not channels:
        raise BadInput(f"{name} takes no channels in addition to the latent's: leave maps out.")
    if not _has_shape(maps, rows, channels, None, None):
        raise BadInput(f"maps must have the shape {wanted}, not {_shape(maps)}.")


def check_labels(model: Expectations, labels: Any, rows: int | None = None) -> Tensor | None:
    """Check class labels and convert them to a tensor; None for a network without class embedding.

    Raises:
        BadInput: labels are missing, not expected, out of range or of the wrong shape; the message gives what is
            expected.
    """
    expected = model.class_labels
    if expected is None:
        if labels is not None:
            raise BadInput(f"{model.name or 'This network'} takes no class labels: leave labels out.")
        return None
    if labels is None:
        raise BadInput(
            f"{model.name or 'This network'} takes class labels: give labels, {expected}, or load a model without them."
        )
    read = expected.read(labels)
    if rows not in (None, len(read)):
        raise BadInput(f"There must be one class label per row of the condition: {rows}, not {len(read)}.")
    return read


def check_tokens(model: Expectations, tokens: Tensor | None, rows: int | None = None) -> None:
    """Check the embeddings `tokens` [rows,n,d] that a network with cross-attention but without text encoder takes.

    Raises:
        BadInput: tokens are missing, not expected or of the wrong shape; the message gives the expected shape.
    """
    width, name = 0 if model.takes_text else model.token_width, model.name or "This network"
    wanted = f"[{'rows' if rows is None else rows},n,{width}]"
    if tokens is None:
        if width:
            raise BadInput(f"{name} has cross-attention and no text encoder: give tokens={wanted} in Python.")
        return
    if not width:
        raise BadInput(f"{name} takes no tokens except those of its prompts: leave tokens out.")
    if not _has_shape(tokens, rows, None, width):
        raise BadInput(f"tokens must have the shape {wanted}, not {_shape(tokens)}.")


def _has_shape(values: Any, *sides: int | None) -> bool:
    """Whether this is a tensor of the given shape, in which None stands for any size."""
    if not isinstance(values, Tensor) or values.ndim != len(sides):
        return False
    return all(side in (None, found) for side, found in zip(sides, values.shape, strict=True))


def _shape(values: Any) -> str:
    return str(list(values.shape)) if isinstance(values, Tensor) else f"a {type(values).__name__}"


def _maps_in_words(model: Expectations) -> str:
    channels, latent = model.map_channels, model.latent_channels
    known = {
        1 + latent: " (mask and masked_image_latents of an inpainting network: sfumato.models.maps.inpainting_maps)",
        latent: " (image_latents of InstructPix2Pix: sfumato.models.maps.instruct_maps)",
    }
    kind = known.get(channels, "") if model.takes_text else ""
    return f"{channels} channels concatenated to the latent's {latent}{kind}"


def _beyond_prompts(model: Expectations) -> Iterator[str]:
    """Descriptions of the inputs of the network in addition to latents, timesteps and prompts."""
    if model.map_channels:
        yield _maps_in_words(model)
    if model.class_labels is not None:
        yield f"class labels, {model.class_labels}"
    if model.token_width and not model.takes_text:
        yield f"tokens for its cross-attention, [rows,n,{model.token_width}]"


def _problems(model: Expectations, x: Tensor, t: int | Tensor, cond: Condition) -> Iterator[str]:
    grid, last = model.latent_multiple, len(model.schedule) - 1
    if x.ndim != 4 or x.shape[1] != model.latent_channels:
        yield f"Latents must have the shape [b,{model.latent_channels},h,w], not {list(x.shape)}."
    if x.shape[-2] % grid or x.shape[-1] % grid:
        yield f"Height and width of latents must be multiples of {grid}, not {list(x.shape[-2:])}."
    if not isinstance(t, int) and t.shape != x.shape[:1]:
        yield f"Timesteps must be one int or one per row, {len(x)} of them, not {list(t.shape)}."
    if isinstance(t, int) and not 0 <= t <= last:
        yield f"The timestep must be between 0 and {last}, not {t}."
    if len(cond) != len(x):
        yield f"There must be one row of the condition per latent: {len(x)}, not {len(cond)}."
    yield from _problems_of_condition(model, x, cond)


def _problems_of_condition(model: Expectations, x: Tensor, cond: Condition) -> Iterator[str]:
    """Problems of a condition. Values of labels are not checked, because that would synchronise with a GPU."""
    expected, width = model.class_labels, model.token_width
    if (model.takes_text or width) and cond.tokens is None:
        given = "prompts" if model.takes_text else f"tokens=[{len(x)},n,{width}]"
        yield f"This model needs a condition: give model.condition({given})."
    if width and cond.tokens is not None and cond.tokens.shape[-1] != width:
        yield f"The condition must have tokens of width {width} for this model, not {cond.tokens.shape[-1]}."
    if (0 if cond.maps is None else cond.maps.shape[1]) != model.map_channels:
        yield f"The condition must have maps with {model.map_channels} channels for this model."
    if cond.maps is not None and cond.maps.shape[-2:] != x.shape[-2:]:
        yield (
            f"maps must have the height and width of the latents, {list(x.shape[-2:])}, not "
            f"{list(cond.maps.shape[-2:])}."
        )
    if expected is None and cond.labels is not None:
        yield "This model takes no class labels: give a condition without labels."
    if expected is not None and (cond.labels is None or not expected.fit(cond.labels)):
        yield f"The condition must have class labels for this model: give labels to model.condition, {expected}."
    if expected is not None and expected.float32_only and model.dtype != torch.float32:
        yield 'diffusers embeds class labels of the type "timestep" in float32 only: load the model with dtype fp32.'
