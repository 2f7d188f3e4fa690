"""Running a piece of work of the Python API with a progress bar, and adding up what it cost."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.progress import Show, progress
from sfumato.cli.report import print_table, say, shown

if TYPE_CHECKING:
    from sfumato.api import Run
    from sfumato.api.loaded import Loaded


def finish(run: "Run[Any]", show: Show | None = None) -> Any:
    """Run to the end with a bar on stderr (`show`: one that is already there), and give the result."""
    if show is None:
        with progress() as bar:
            return finish(run, bar)
    with closing(run):
        for step in run:
            show(step.done, step.total, f"{step.stage} {step.done}/{step.total}")
        return run.result


def summary(
    reports: Sequence[dict[str, Any]], outputs: Sequence[Path], notes: Sequence[str], **parameters: Any
) -> dict[str, Any]:
    """What `--json` prints: the cost of all parts together, the last part's numbers, the files, remarks on them.

    network_evaluations counts pictures through the network (a guidance pair is two), network_calls forward passes;
    jacobian_passes, where there are any, products with the Jacobian by the mode of differentiation.
    """
    last = reports[-1]
    return {
        "seconds": round(sum(report["seconds"] for report in reports), 4),
        "network_evaluations": sum(report["network_evaluations"]["samples"] for report in reports),
        "network_calls": sum(report["network_evaluations"]["calls"] for report in reports),
        **_passes(reports),
        "reconstruction_latent_max_error": last.get("reconstruction_latent_max_error"),
        "parameters": {**last["parameters"], **parameters},
        "metrics": last.get("metrics", {}),
        **({"moves": last["moves"]} if "moves" in last else {}),
        "outputs": [str(path) for path in outputs],
        "notes": list(notes),
    }


def _passes(reports: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    spent = [report["jacobian_passes"] for report in reports if "jacobian_passes" in report]
    return {"jacobian_passes": {mode: sum(each[mode] for each in spent) for mode in spent[0]}} if spent else {}


def made_by(model: "Loaded", named: str) -> dict[str, Any]:
    """Model and device as the user named them, precision and versions, for `summary`."""
    from sfumato.api.report import made_with

    return made_with(model.network) | {"model": named, "device": str(model.network.device)}


def print_summary(found: dict[str, Any]) -> None:
    """The same for people: moves of the latent, each output with its metrics, and one line of cost."""
    for path, move in zip(found["outputs"], found.get("moves", []), strict=False):
        _print_move(path, move)
    numbers = {name: values for name, values in found["metrics"].items() if len(values) == len(found["outputs"])}
    rows = [["output", *(name.replace("_", " ") for name in numbers)]]
    for n, path in enumerate(found["outputs"]):
        rows.append([path, *("-" if values[n] is None else shown(values[n]) for values in numbers.values())])
    print_table(rows)
    say(cost_line(found))


def _print_move(path: str, move: dict[str, Any]) -> None:
    """The steps of an edit in the latent, and how far it came."""
    names = ("angle", "length", "expected")
    rows = [[str(n), *(shown(step[name]) for name in names)] for n, step in enumerate(move["steps"], start=1)]
    print_table([["step", "angle", "length", "length if linear"], *rows])
    say(f"{path}: the latent moved by {shown(move['distance'])}")


def cost_line(found: dict[str, Any]) -> str:
    """Seconds, evaluations, products with the Jacobian and, where it was measured, the error of the reconstruction."""
    line = f"{found['seconds']:.1f} s, {found['network_evaluations']} network evaluations"
    for mode, count in found.get("jacobian_passes", {}).items():
        line += f", {count} {mode.replace('_', '-')} products" if count else ""
    error = found["reconstruction_latent_max_error"]
    return line if error is None else f"{line}, largest latent error of the reconstruction {error:.2g}"
