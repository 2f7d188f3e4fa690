"""Cache of the results of a part of a measurement in a file, so that an interrupted script can resume."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.files import write_text


def kept(path: Path, belongs: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read the numbers from a JSON file if its settings are equal to `belongs`; otherwise measure and write them.

    Args:
        path: the file; its folder is created if missing.
        belongs: all settings on which the numbers depend, as JSON values.
        work: measures the numbers.
    """
    if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8")))["belongs"] == belongs:
        return dict(found["numbers"])
    numbers = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"belongs": belongs, "numbers": numbers}, indent=1) + "\n")
    return numbers
