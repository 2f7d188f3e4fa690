"""The default model, and the defaults of method options for a model. This module does not import torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.options.params import Params

VARIABLE = "SFUMATO_MODEL"
SHIPPED = "emoji"


@dataclass(frozen=True)
class DefaultModel:
    """The model that commands use without --model.

    Attributes:
        name: name of the model, in the form of --model.
        origin: source of the setting: the environment variable, the configuration file, or "bundled".
    """

    name: str
    origin: str


def config_folder() -> Path:
    """The user's folder of settings: config.toml and presets/, see docs/editing.md."""
    from platformdirs import user_config_path

    return user_config_path("sfumato", appauthor=False)


def default_model() -> DefaultModel:
    """The model named by SFUMATO_MODEL, else by `model` in config.toml, else the bundled one.

    Raises:
        BadInput: the configuration file cannot be used.
    """
    if name := os.environ.get(VARIABLE, "").strip():
        return DefaultModel(name, VARIABLE)
    path = config_folder() / "config.toml"
    if not os.path.lexists(path):
        return DefaultModel(SHIPPED, "bundled")
    from sfumato.text_files import read_toml

    settings = read_toml(path, "correct or remove it")
    unknown = [key for key in settings if key != "model"]
    if unknown:
        raise BadInput(f"{path} sets {unknown[0]!r:.100}, but the only setting is model: correct or remove it.")
    name = settings.get("model", SHIPPED)
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"{path}: model must be the name of a model, not {name!r:.100}: correct or remove it.")
    return DefaultModel(name, str(path))


def values_with(
    model: str, params: "type[Params]", section: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """The defaults of a method's options for a model, without loading the model.

    Args:
        model: name of the model, in the form of --model.
        params: the method's parameters.
        section: section of the model folder's `sfumato.json`.
        given: options on the command line on which other defaults depend (inversion, steps).

    Returns:
        The values by option, and a description of their source: "defaults of emoji", or "defaults of the method" if the
        model has no defaults, is not on this machine, or cannot be read.
    """
    from sfumato.options.defaults import GUIDANCE_SCALES, defaults_of, scaled_skip

    folder, tuned = _folder(model), {}
    if folder is not None:
        tuned = _settings(folder).get(section, {})
    defaults = defaults_of(params, given, tuned)
    if folder is not None and not _takes_text(folder):
        defaults |= {name: 1.0 for name in GUIDANCE_SCALES if name in defaults}
    values = scaled_skip(defaults | dict(given), defaults, given)
    return values, f"defaults of {model}" if tuned else "defaults of the method"


def _folder(model: str) -> Path | None:
    from sfumato.models.names import place_of

    try:
        place = place_of(model)
    except BadInput:
        return None
    return place if place is not None and place.is_dir() else None


def _settings(folder: Path) -> dict[str, Any]:
    from sfumato.models.bundled import read_settings

    try:
        return read_settings(folder)
    except BadInput:
        return {}


def _takes_text(folder: Path) -> bool:
    """Whether the index of a pipeline folder lists a text encoder."""
    from sfumato.text_files import read_json

    try:
        index = read_json(folder / "model_index.json", "give a diffusers folder")
    except BadInput:
        return True
    part = index.get("text_encoder") if isinstance(index, dict) else None
    return isinstance(part, list) and any(part)
