"""What a file of directions holds, for people and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.report import print_json, print_table, shown

if TYPE_CHECKING:
    from sfumato.geometry import Directions


def described(path: Path, found: "Directions") -> dict[str, Any]:
    """Everything but the vectors, as JSON values."""
    return {
        "file": path,
        "kind": found.kind,
        "model": found.model,
        "timestep": found.t,
        "steps": found.steps,
        "latent": list(found.latent),
        "samples": found.samples,
        "prompts": list(found.prompts),
        "directions": [
            {"name": name, "value": value, "overlap": overlap}
            for name, value, overlap in zip(found.names, found.values, found.overlap, strict=True)
        ],
    }


def print_directions(path: Path, found: "Directions", as_json: bool, outputs: Sequence[Path] = ()) -> None:
    """A table, or the same as one JSON object; `outputs` are other files that were written."""
    if as_json:
        print_json(described(path, found) | {"outputs": list(outputs)})
        return
    value = "singular value" if found.kind == "pullback" else "deviation"
    rows = [["direction", value, "overlap"]]
    for name, size, overlap in zip(found.names, found.values, found.overlap, strict=True):
        rows.append([name, shown(size), shown(overlap)])
    print_table(rows)
    print(f"{path}: timestep {found.t} of a run of {found.steps} steps, {found.samples} samples")
    for output in outputs:
        print(output)
