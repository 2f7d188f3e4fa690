"""`sfumato train`: train with a recipe, resume an earlier run, export the trained networks."""

import math
import signal
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, real
from sfumato.cli.progress import duration, progress
from sfumato.cli.quiet import quiet_libraries
from sfumato.cli.report import print_json, say
from sfumato.errors import BadInput
from sfumato.suggestions import suggestion

if TYPE_CHECKING:
    from sfumato.train.loop import Run, StepReport

_DEVICES = ("auto", "cpu", "cuda")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the kind of network, the recipe, the output folder and the duration."""
    from sfumato.train.registry import TASKS

    kinds = TASKS.names()
    parser.usage = "sfumato train KIND RECIPE --out FOLDER [options]"
    parser.add_argument("kind", metavar="KIND", help="what to train: " + ", ".join(kinds))
    parser.add_argument(
        "recipe", metavar="RECIPE", help="TOML file of settings; recipes/ contains those of the bundled models"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="folder of the run; an earlier run there is resumed"
    )
    parser.add_argument(
        "--minutes", type=real(0), metavar="M", help="stop after M minutes; default: after the last step"
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu or cuda")
    parser.add_argument("--export-only", action="store_true", help="export the newest checkpoint without training")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example(
        "sfumato train autoencoder recipes/emoji-autoencoder.toml --out runs/autoencoder --minutes 60",
        "torchrun --nproc-per-node 4 -m sfumato train diffusion recipes/mine.toml --out runs/mine",
    )


def run(arguments: Namespace) -> int:
    """Train and export; after Ctrl-C or SIGTERM, write a checkpoint and do not export. Returns the exit code."""
    from sfumato.train.recipe import load_recipe
    from sfumato.train.registry import TASKS

    if arguments.kind not in TASKS.names():
        raise BadInput(f"{arguments.kind!r} cannot be trained{suggestion(arguments.kind, TASKS.names())}")
    if arguments.device not in _DEVICES:
        raise BadInput(f"there is no device {arguments.device!r} to train on: give auto, cpu or cuda.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise BadInput(f"{arguments.out} is a file: name a folder for the run.")
    if arguments.export_only:
        _check_checkpoint(arguments.out)
    load_recipe(arguments.recipe, arguments.kind)
    quiet_libraries()  # before the first import of a library
    from sfumato.train.start import start

    device = None if arguments.device == "auto" else arguments.device
    training = start(arguments.recipe, arguments.out, arguments.kind, device)
    began, code = time.monotonic(), 0
    if not arguments.export_only:
        code = _train(training, arguments.minutes)
    seconds = time.monotonic() - began
    if not code:
        training.export(arguments.out / "export")
    if training.accelerator.is_main_process:
        _report(training, arguments, bool(code), seconds)
    training.close()
    return code


def _check_checkpoint(folder: Path) -> None:
    """Raise BadInput if there is no checkpoint to export."""
    quiet_libraries()
    from sfumato.train.checkpoint import newest_checkpoint

    if newest_checkpoint(folder / "checkpoints") is None:
        raise BadInput(f"{folder} contains no checkpoint to export: train first.")


def _train(training: "Run", minutes: float | None) -> int:
    """Train; return 0, or 128 + the number of the signal that stopped training after a checkpoint was written."""
    from sfumato.train.interrupt import Stopped

    began, began_at = time.monotonic(), training.step
    try:
        with progress(wanted=training.accelerator.is_main_process) as show:
            for report in training.steps(minutes):
                show(*_state(training, report, began_at, time.monotonic() - began, minutes))
    except KeyboardInterrupt as stopped:
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    return 0


def _state(
    training: "Run", report: "StepReport", began_at: int, elapsed: float, minutes: float | None
) -> tuple[float, float, str]:
    """Arguments of the progress callback: elapsed time, total time, and a text with step, rate and losses."""
    rate = (report.step - began_at) / max(elapsed, 1e-9)
    by_steps = (training.recipe.run.steps - report.step) / rate
    remaining = min(by_steps, math.inf if minutes is None else max(0.0, 60 * minutes - elapsed))
    samples = report.samples / report.step * rate
    losses = "  ".join(f"{name} {value:.4f}" for name, value in report.scalars.items() if name.endswith("loss"))
    text = f"step {report.step}  {samples:.1f} samples/s  {duration(remaining)} left  {losses}"
    return elapsed, elapsed + remaining, text


def _report(training: "Run", arguments: Namespace, stopped: bool, seconds: float) -> None:
    """Print the result on stdout, and on stderr that training was stopped early."""
    from sfumato.train.checkpoint import newest_checkpoint

    newest = newest_checkpoint(arguments.out / "checkpoints")
    if arguments.json:
        print_json(
            {
                "kind": arguments.kind,
                "step": training.step,
                "samples": training.samples,
                "seconds": round(seconds, 3),
                "checkpoint": newest,
                "export": None if stopped else arguments.out / "export",
                "stopped": stopped,
            }
        )
    elif not stopped:
        say(f"step {training.step}, {training.samples} samples: exported to {arguments.out / 'export'}")
    if stopped:
        remark(f"stopped; the newest checkpoint is {newest}, and the same command resumes from there.")
