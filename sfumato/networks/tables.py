"""Read the JSON objects in a model folder. Imports no large library."""

from pathlib import Path
from typing import Any

from sfumato.errors import BadInput
from sfumato.files import printable
from sfumato.networks.places import GIVE, model_file
from sfumato.text_files import read_json


def read_table(path: Path, root: Path) -> dict[str, Any]:
    """Read the object in a JSON file of a model folder.

    Raises:
        BadInput: this is not a regular file in `root`, not JSON, not an object, or too large or too deeply nested.
    """
    model_file(path, root)
    table = read_json(path, GIVE)
    if not isinstance(table, dict):
        raise BadInput(f"{printable(path)} must contain one JSON object: {GIVE}.")
    return table
