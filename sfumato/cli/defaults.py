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


@dataclass(frozen=True)
class LocalModel:
    """What the defaults of options depend on (`sfumato.options.defaults.Tuned`), for a model that is not loaded.

    Attributes:
        name: name of the model, in the form of --model.
        settings: content of the model folder's `sfumato.json`; {} for a single file.
        takes_text: whether the model has a text encoder.
    """

    name: str
    settings: Mapping[str, Any]
    takes_text: bool

    def check(self, params: "type[Params]", section: str) -> None:
        """Check the defaults for a method. Raises BadInput."""
        from sfumato.api.settings import check_defaults

        check_defaults(params, section, self.settings, self.name)


def local_model(name: str, config: str | None = None) -> LocalModel | None:
    """A model on this machine whose defaults are known before it is loaded.

    Args:
        name: name of the model, in the form of --model.
        config: folder with the configuration of a single file, or None.

    Returns:
        The model; None for a hub id, and for a model that does not exist or cannot be read, which loading it reports.
    """
    from sfumato.models.bundled import read_settings
    from sfumato.models.index import read_index
    from sfumato.models.names import is_single_file, place_of

    try:
        place = place_of(name)
        if place is None:
            return None
        if is_single_file(place):  # without a configuration of a published architecture, which has text encoders
            return LocalModel(name, {}, config is None or read_index(Path(config).expanduser()).takes_text)
        return LocalModel(name, read_settings(place), read_index(place).takes_text)
    except BadInput:
        return None


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
    from sfumato.options.defaults import completed
    from sfumato.options.params import options_of

    found = local_model(model) or LocalModel(model, {}, takes_text=True)
    try:
        found.check(params, section)
    except BadInput:  # loading the model reports it
        found = LocalModel(model, {}, found.takes_text)
    values = completed(params, section, given, found)
    origin = f"defaults of {model}" if found.settings.get(section) else "defaults of the method"
    return {name: getattr(values, name) for name in options_of(params)}, origin
