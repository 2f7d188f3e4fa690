"""Options for the interpretation of prompts, stored with inversions and plans, as they change the condition."""

from collections.abc import Mapping
from typing import Any

from sfumato.errors import BadInput
from sfumato.models.diffusion_model import DiffusionModel

ENTRIES = ("prompt_weights", "prompt_chunks")
"""The options of `sfumato.load` that change how prompts are encoded."""


def reading(network: DiffusionModel) -> dict[str, Any]:
    """Return the values of `ENTRIES` with which the model was loaded; {} for the defaults."""
    return {name: network.additions[name] for name in ENTRIES if name in network.additions}


def check_reading(network: DiffusionModel, made: Mapping[str, Any], what: str, otherwise: str) -> None:
    """Check that a model encodes prompts with the same options as the model of an inversion or a plan.

    Args:
        network: the model.
        made: `reading` of the other model.
        what: subject of the error message, e.g. "This inversion".
        otherwise: alternative to loading the model again, for the message, e.g. "invert the image again".

    Raises:
        BadInput: the options differ; the message gives the options to load the model with.
    """
    if dict(made) != reading(network):
        was, now = _options(made), _options(reading(network))
        flags = f" ({' '.join(map(_flag, made, made.values()))})" if made else ""
        raise BadInput(f"{what} was made {was}, and the model was loaded {now}: load it {was}{flags}, or {otherwise}.")


def _options(entries: Mapping[str, Any]) -> str:
    named = " and ".join(f"{name}={value!r:.20}" for name, value in entries.items())
    return f"with {named}" if named else f"without {' and '.join(ENTRIES)}"


def _flag(name: str, value: Any) -> str:
    """The flag of an option on the command line."""
    flag = f"--{name.replace('_', '-')}"
    return flag if value is True else f"{flag} {value!r:.20}"
