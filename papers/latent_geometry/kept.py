"""Cache of the parts of a long measurement, each stored with the settings on which it depends."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from papers.latent_geometry.study import Size, Study
from sfumato.errors import BadInput
from sfumato.files import write_text
from sfumato.metrics import Evaluator
from sfumato.models.fingerprint import fingerprint

EVALUATOR = "evaluator"
"""Name under which the use of the evaluator is recorded."""
Numbers: TypeAlias = dict[str, Any]


def kept(study: Study, out: Path, name: str, version: int, work: Callable[[Study], Numbers]) -> Numbers:
    """The numbers of a part: read from the cache if the model and all settings that it depends on are unchanged.

    These settings are recorded while the part runs. Fields of the size, or the evaluator, that it does not read may
    therefore change without a new measurement.

    Args:
        study: the model, the prompts and the size of the measurement.
        out: folder that contains the cache, as `parts/NAME.json`.
        name: name of the part.
        version: version of the measurement; increase it when the measurement changes.
        work: measures the part.

    Raises:
        BadInput: the file in the cache is damaged.
    """
    path = out / "parts" / f"{name}.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInput(f"{path} is damaged: delete it.") from error
        if found["belongs"] == _belongs(study, version, found["belongs"].get("asked", ())):
            return dict(found["numbers"])
    asked: set[str] = set()
    size, evaluator = _Watched(study.size, asked), _Watched(study.evaluator, asked, EVALUATOR)
    numbers = work(replace(study, size=cast(Size, size), evaluator=cast(Evaluator, evaluator)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        path, json.dumps({"belongs": _belongs(study, version, sorted(asked)), "numbers": numbers}, indent=1) + "\n"
    )
    return dict(json.loads(json.dumps(numbers)))


def _belongs(study: Study, version: int, asked: Sequence[str]) -> Numbers:
    """Model, prompts, version of the part and the values of the settings that it read, as JSON values."""
    network, evaluator = study.model.network, study.evaluator
    values = asdict(study.size)
    if EVALUATOR in asked:
        looks = {"clip": evaluator.clip.model, "structure": evaluator.structure, "perceptual": evaluator.perceptual}
        values[EVALUATOR] = fingerprint(looks, network.schedule)
    seen = {name: values.get(name) for name in asked}
    about = {"model": network.fingerprint(), "prompts": study.prompts, "version": version, "asked": seen}
    return dict(json.loads(json.dumps(about)))


class _Watched:
    """Proxy that returns the attributes of an object and records which ones were read."""

    def __init__(self, watched: Any, asked: set[str], name: str = "") -> None:
        self._watched, self._asked, self._name = watched, asked, name

    def __getattr__(self, attribute: str) -> Any:
        self._asked.add(self._name or attribute)
        return getattr(self._watched, attribute)
