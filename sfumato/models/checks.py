"""What is refused before a network runs."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.schedule import Schedule
from sfumato.errors import BadInput


class Expectations(Protocol):
    """What a model says about its inputs."""

    schedule: Schedule

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def latent_multiple(self) -> int:
        """What height and width of a latent must be multiples of."""

    @property
    def map_channels(self) -> int:
        """Channels that are expected beside the latent's."""

    @property
    def takes_text(self) -> bool:
        """Whether prompts mean anything to the model."""


def check_inputs(model: Expectations, x: Tensor, t: int | Tensor, cond: Condition) -> None:
    """Refuse what the network could not run, or would run on something else than was meant.

    Raises:
        BadInput: with the first problem.
    """
    for problem in _problems(model, x, t, cond):
        raise BadInput(problem)


def check_maps(model: Expectations, maps: Tensor | None, rows: int) -> None:
    """Refuse maps that are missing, not wanted or of another shape.

    Raises:
        BadInput: with the shape that is wanted.
    """
    channels = model.map_channels
    if channels and maps is None:
        raise BadInput(
            f"This network expects {channels} more channels than a latent has (inpainting, for example): "
            f"give them as maps=[{rows},{channels},h,w], or use a model without them."
        )
    if maps is not None and (maps.ndim != 4 or maps.shape[:2] != (rows, channels)):
        raise BadInput(f"maps must have the shape [{rows},{channels},h,w], not {list(maps.shape)}.")


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
    if model.takes_text and cond.tokens is None:
        yield "This model needs a condition: give model.condition(prompts)."
    if (0 if cond.maps is None else cond.maps.shape[1]) != model.map_channels:
        yield f"The condition must have {model.map_channels} channels of maps for this model."
