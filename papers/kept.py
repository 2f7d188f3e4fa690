"""Results of a part of a measurement, kept in a file, so that a script resumes after an interruption."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.files import write_text


def kept(path: Path, belongs: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The numbers in a JSON file if they belong to these settings; else those that `work` measures, which are written.

    Args:
        path: the file; its folder is made.
        belongs: everything that the numbers depend on, as JSON values.
        work: measures them.
    """
    if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8")))["belongs"] == belongs:
        return dict(found["numbers"])
    numbers = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"belongs": belongs, "numbers": numbers}, indent=1) + "\n")
    return numbers
