"""The models that the package contains. This module does not import torch or diffusers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.errors import BadInput
from sfumato.networks.places import has, model_file
from sfumato.text_files import read_json

BUNDLED = Path(__file__).parent.parent / "bundled"
_PARASOL = BUNDLED / "parasol"


@dataclass(frozen=True)
class BundledModel:
    """A bundled model.

    Attributes:
        name: name for `load_model`.
        folder: its diffusers pipeline folder.
    """

    name: str
    folder: Path

    @property
    def summary(self) -> str:
        """One-line description from its `sfumato.json`."""
        return str(read_settings(self.folder).get("summary", ""))


def list_models() -> list[BundledModel]:
    """The bundled models, sorted by name."""
    folders = sorted(index.parent for index in BUNDLED.glob("*/model_index.json"))
    return [BundledModel(each.name, each) for each in folders]


def bundled_path(name: str) -> Path:
    """The folder of a bundled model.

    Raises:
        BadInput: there is no bundled model with this name.
    """
    found = {model.name: model.folder for model in list_models()}
    if name not in found:
        raise BadInput(f'There is no bundled model "{name}"; the bundled models are: {", ".join(found) or "none"}.')
    return found[name]


def bundled_parasol(name: str) -> Path | None:
    """The bundled PARASOL file of a bundled model; None if there is none with this name."""
    found = {path.stem: path for path in _PARASOL.glob("*.safetensors")}
    return found.get(name)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read `sfumato.json` of a model folder: defaults for editing and generating; empty if there is no such file.

    Raises:
        BadInput: the file is not a JSON object of sections, or its summary is not text.
    """
    path = folder / "sfumato.json"
    if not has(path):
        return {}
    model_file(path, folder)
    settings = read_json(path, "correct or remove it")
    if not isinstance(settings, dict):
        raise BadInput(f"{path} must contain one JSON object; correct or remove it.")
    for name, value in settings.items():
        wanted, words = (str, "text") if name == "summary" else (dict, "a JSON object of options")
        if not isinstance(value, wanted):
            raise BadInput(f"{path}: {name!r:.100} must be {words}, not {value!r:.100}; correct or remove it.")
    return settings
