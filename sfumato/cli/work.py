"""Run operations of the Python API with a progress bar, and summarise their cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.outputs import remark, remarks
from sfumato.cli.progress import Show, duration, progress
from sfumato.cli.report import print_table, say, shown
from sfumato.files import printable

if TYPE_CHECKING:
    from sfumato.api import Result, Run
    from sfumato.api.loaded import Loaded

#: Smallest remaining time in seconds that is shown.
_WORTH = 5.0
LABELS = {
    "edit_psnr": "PSNR to source [dB]",
    "edit_ssim": "SSIM to source",
    "autoencoder_psnr": "autoencoder PSNR [dB]",
    "source_similarity_to_source": "CLIP source/--from",
    "source_similarity_to_target": "CLIP source/--to",
    "edit_similarity_to_target": "CLIP edit/--to",
}
"""Headings of metrics; CLIP is a cosine similarity."""


def finish(run: "Run[Any]", show: Show | None = None, after_step: Callable[[], None] = lambda: None) -> Any:
    """Run to the end and return the result; progress is shown on stderr, or by `show`.

    Args:
        run: the run.
        show: shows the progress.
        after_step: called after every step, and at the end of the run.
    """
    if show is None:
        with progress() as bar:
            return finish(run, bar, after_step)
    with closing(run):
        show(0, None, "preparing")
        began = time.monotonic()
        for step in run:
            show(step.done, step.total, f"{step.stage} {step.done}/{step.total}{_left(step.done, step.total, began)}")
            began = began if step.done < step.total else time.monotonic()  # the next stage begins
            after_step()
        after_step()
        return run.result


def finish_and_save(
    run: "Run[Any]", paths: Sequence[Path], *, recipe: bool, keep_gps: bool = False
) -> "tuple[Result, list[str]]":
    """Run to the end and save every batch of images when it is finished; missing folders are created.

    If the run fails or is stopped, a remark on stderr says how many images have been saved.

    Args:
        run: an edit or a generation.
        paths: the path of every image.
        recipe: whether to write the recipes to the files.
        keep_gps: whether to keep the positions of the sources.

    Returns:
        The result of the run, and remarks on what a file format cannot represent, which are also printed on stderr.
    """
    notes: dict[int, str] = {}

    def save() -> None:
        for part in run.parts:
            for row, output in enumerate(part.outputs):
                if output not in notes:
                    paths[output].parent.mkdir(parents=True, exist_ok=True)
                    notes[output] = part.result.save(paths[output], row, recipe=recipe, keep_gps=keep_gps)

    try:
        result = finish(run, after_step=save)
    except BaseException:
        save()
        if notes:
            folder = printable(paths[0].parent)
            remark(f"{len(notes)} of {len(paths)} {'images are' if len(paths) > 1 else 'image is'} in {folder}.")
        raise
    return result, remarks([f"{paths[n]}: {notes[n]}." for n in sorted(notes) if notes[n]])


def _left(done: int, total: int, began: float) -> str:
    """Estimated time of a stage's remaining steps from its finished steps; "" if less than `_WORTH` seconds."""
    left = (time.monotonic() - began) / done * (total - done)
    return f", about {duration(left)} left" if left >= _WORTH else ""


def summary(
    reports: Sequence[dict[str, Any]], outputs: Sequence[Path], notes: Sequence[str], **parameters: Any
) -> dict[str, Any]:
    """The output of `--json`: total cost, parameters and metrics of the last operation, output files, remarks."""
    last = reports[-1]
    return {
        **cost(reports),
        "reconstruction_latent_max_error": last.get("reconstruction_latent_max_error"),
        "parameters": {**last["parameters"], **parameters},
        "metrics": last.get("metrics", {}),
        **({"moves": last["moves"]} if "moves" in last else {}),
        "outputs": [str(path) for path in outputs],
        "notes": list(notes),
    }


def cost(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The total cost of several operations.

    network_evaluations counts the samples that the network evaluates (classifier-free guidance needs two per image),
    network_calls the forward passes (of batches). jacobian_passes, if any, counts products with the Jacobian by mode of
    differentiation.
    """
    return {
        "seconds": round(sum(report["seconds"] for report in reports), 4),
        "network_evaluations": sum(report["network_evaluations"]["samples"] for report in reports),
        "network_calls": sum(report["network_evaluations"]["calls"] for report in reports),
        **_passes(reports),
    }


@contextmanager
def counted(model: "Loaded") -> Iterator[dict[str, Any]]:
    """Measure an operation that has no report of its own: the entries for `cost` are filled in when the block ends."""
    from sfumato.geometry import counting_passes

    report: dict[str, Any] = {}
    began = time.perf_counter()
    with model.network.counting() as count, counting_passes() as passes:
        yield report
    report["seconds"] = time.perf_counter() - began
    report["network_evaluations"] = {"calls": count.calls, "samples": count.samples}
    report |= {"jacobian_passes": passes.products} if any(passes.products.values()) else {}


def _passes(reports: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    spent = [report["jacobian_passes"] for report in reports if "jacobian_passes" in report]
    return {"jacobian_passes": {mode: sum(each[mode] for each in spent) for mode in spent[0]}} if spent else {}


def made_by(model: "Loaded", named: str) -> dict[str, Any]:
    """Model name as given by the user, device, precision and versions, for `summary`."""
    from sfumato.api.report import made_with

    return made_with(model.network) | {"model": named, "device": str(model.network.device)}


def print_summary(found: dict[str, Any]) -> None:
    """Print a summary as text: edits of the latent, outputs with their metrics, and one line with the cost."""
    for path, move in zip(found["outputs"], found.get("moves", []), strict=False):
        _print_move(path, move)
    numbers = {name: values for name, values in found["metrics"].items() if len(values) == len(found["outputs"])}
    rows = [["output", *(LABELS.get(name, name.replace("_", " ")) for name in numbers)]]
    for n, path in enumerate(found["outputs"]):
        rows.append([path, *("-" if values[n] is None else shown(values[n]) for values in numbers.values())])
    print_table(rows)
    say(cost_line(found))


def _print_move(path: str, move: dict[str, Any]) -> None:
    """Print the steps of an edit in the latent, and the total distance."""
    names = ("angle", "length", "expected")
    rows = [[str(n), *(shown(step[name]) for name in names)] for n, step in enumerate(move["steps"], start=1)]
    print_table([["step", "angle", "length", "length if linear"], *rows])
    say(f"{path}: the latent moved by {shown(move['distance'])}")


def cost_line(found: dict[str, Any]) -> str:
    """Seconds, evaluations, products with the Jacobian and, if measured, the error of the reconstruction."""
    line = f"{found['seconds']:.1f} s, {found['network_evaluations']} network evaluations"
    for mode, count in found.get("jacobian_passes", {}).items():
        line += f", {count} {mode.replace('_', '-')} products" if count else ""
    error = found.get("reconstruction_latent_max_error")
    return line if error is None else f"{line}, largest latent error of the reconstruction {error:.2g}"
