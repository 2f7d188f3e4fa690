"""Printing of saved directions, as tables and as JSON."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.report import print_json, print_table, say, shown
from sfumato.cli.work import cost, cost_line
from sfumato.errors import BadInput
from sfumato.formats import DELTA_H, DIRECTIONS, TEXT_DIRECTION

if TYPE_CHECKING:
    from sfumato.geometry import Directions
    from sfumato.shifts.delta_h import DeltaH
    from sfumato.shifts.text_direction import TextDirection


def check_directions(path: Path) -> None:
    """Check a file of directions of the latent, without torch.

    Raises:
        BadInput: it contains no such directions; the message describes the use of other files of sfumato.
    """
    if TEXT_DIRECTION.matches(path):
        raise BadInput(
            f"{path} contains a text direction: `sfumato directions show {path}` prints it, "
            f"`sfumato edit --method pix2pix-zero --direction-file {path}` applies it."
        )
    if DELTA_H.matches(path):
        raise BadInput(
            f"{path} contains a delta-h: `sfumato directions show {path}` prints it, "
            f"`sfumato edit --method asyrp --delta {path}` applies it."
        )
    DIRECTIONS.check(path)


def load_directions(path: Path) -> "Directions":
    """Load directions of the latent. Raises BadInput as `check_directions`."""
    check_directions(path)
    from sfumato.geometry import Directions

    return Directions.load(path)


def described(path: Path, found: "Directions") -> dict[str, Any]:
    """All fields except the vectors, as JSON values."""
    return {
        "file": path,
        "kind": found.kind,
        "model": found.model,
        "timestep": found.t,
        "steps": found.steps,
        "step": found.step,
        "pool": found.pool,
        "latent": list(found.latent),
        "samples": found.samples,
        "prompts": list(found.prompts),
        "directions": [
            {"name": name, "value": value, "overlap": overlap}
            for name, value, overlap in zip(found.names, found.values, found.overlap, strict=True)
        ],
    }


def print_directions(
    path: Path,
    found: "Directions",
    as_json: bool,
    outputs: Sequence[Path] = (),
    reports: Sequence[dict[str, Any]] = (),
) -> None:
    """Print a table or one JSON object.

    Args:
        path: the file of directions.
        found: its content.
        as_json: whether to print JSON.
        outputs: other files that were written.
        reports: the operations whose cost is printed, see `sfumato.cli.work.cost`.
    """
    spent = cost(reports) if reports else {}
    if as_json:
        print_json(described(path, found) | {"outputs": list(outputs)} | spent)
        return
    value = "singular value" if found.kind == "pullback" else "deviation"
    rows = [["direction", value, "overlap"]]
    for name, size, overlap in zip(found.names, found.values, found.overlap, strict=True):
        rows.append([name, shown(size), shown(overlap)])
    print_table(rows)
    say(f"{path}: timestep {found.t} of a run of {found.steps} steps, {found.samples} samples")
    for output in outputs:
        say(str(output))
    if spent:
        say(cost_line(spent))


def described_text(path: Path, found: "TextDirection") -> dict[str, Any]:
    """The sentences, shapes and model of a text direction, as JSON values."""
    return {
        "file": path,
        "kind": "text",
        "model": found.model,
        "tokens": list(found.tokens.shape),
        "pooled": None if found.pooled is None else len(found.pooled),
        "source": list(found.source),
        "target": list(found.target),
    }


def print_text_direction(path: Path, found: "TextDirection", as_json: bool) -> None:
    """Print both banks side by side, or one JSON object."""
    if as_json:
        print_json(described_text(path, found))
        return
    print_table([["from", "to"], *map(list, zip_longest(found.source, found.target, fillvalue=""))])
    tokens, width = found.tokens.shape
    say(f"{path}: a text direction of {tokens} tokens x {width} channels for the model {found.model[:12]}")


def described_delta(path: Path, found: "DeltaH") -> dict[str, Any]:
    """All fields of a delta-h except its weights, as JSON values."""
    return {
        "file": path,
        "kind": f"delta-h, {found.kind}",
        "model": found.model,
        "attribute": found.attribute,
        "source": found.source,
        "target": found.target,
        "layer": found.layer,
        "shape": list(found.shape),
        "factor": found.factor,
        "steps": found.steps,
        "timesteps": list(found.timesteps),
        "t_edit": found.t_edit,
        "t_boost": found.t_boost,
    }


def print_delta(path: Path, found: "DeltaH", as_json: bool) -> None:
    """Print the fields of a delta-h, or one JSON object."""
    fields = described_delta(path, found)
    if as_json:
        print_json(fields)
        return
    del fields["file"]
    fields["timesteps"] = f"{found.timesteps[0]} to {found.timesteps[-1]} ({len(found.timesteps)})"
    fields["shape"] = " x ".join(map(str, found.shape))
    print_table([["field", "value"], *([name, str(value)] for name, value in fields.items())])
    say(f"{path}: a delta-h; `sfumato edit --method asyrp --delta {path}` applies it")
