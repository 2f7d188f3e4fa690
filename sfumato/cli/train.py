"""`sfumato train`: run a recipe, go on with an earlier run, export what it learned."""

import math
import signal
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.outputs import remark
from sfumato.cli.parser import CommandParser, real, suggestion
from sfumato.cli.progress import duration, progress
from sfumato.cli.quiet import quiet_libraries
from sfumato.cli.report import print_json, say
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.plugins import Registry
    from sfumato.train.loop import Run, StepReport
    from sfumato.train.registry import BuildTask

_DEVICES = ("auto", "cpu", "cuda")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """What is trained, its recipe, its folder and for how long."""
    kinds = _tasks()
    parser.usage = f"sfumato train {'|'.join(kinds)} RECIPE --out FOLDER [options]"
    parser.add_argument("kind", metavar="KIND", help=", ".join(kinds))
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file; recipes/ holds those of the shipped model")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="the run's folder; a run found there goes on"
    )
    parser.add_argument("--minutes", type=real(0), metavar="M", help="stop after M minutes; default at the last step")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu or cuda")
    parser.add_argument("--export-only", action="store_true", help="only export the newest checkpoint")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example(
        "sfumato train autoencoder recipes/emoji-autoencoder.toml --out runs/autoencoder --minutes 60",
        "torchrun --nproc-per-node 4 -m sfumato train diffusion recipes/mine.toml --out runs/mine",
    )


def run(arguments: Namespace) -> int:
    """Train and export; Ctrl-C and SIGTERM end with a checkpoint and without an export. Returns the exit code."""
    tasks = _tasks()
    if arguments.kind not in (*tasks, *(failure.name for failure in tasks.unloaded)):
        raise BadInput(f"{arguments.kind!r} cannot be trained{suggestion(arguments.kind, tasks)}")
    if arguments.device not in _DEVICES:
        raise BadInput(f"there is no device {arguments.device!r} to train on: give auto, cpu or cuda.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise BadInput(f"{arguments.out} is a file: name a folder for the run.")
    from sfumato.train.checkpoint import newest_checkpoint
    from sfumato.train.start import start

    if arguments.export_only and newest_checkpoint(arguments.out / "checkpoints") is None:
        raise BadInput(f"{arguments.out} holds no checkpoint to export: train first.")
    device = None if arguments.device == "auto" else arguments.device
    training = start(arguments.recipe, arguments.out, arguments.kind, device)
    began, code = time.monotonic(), 0
    if not arguments.export_only:
        code = _train(training, arguments.minutes)
    seconds = time.monotonic() - began
    if not code:
        training.export(arguments.out / "export")
    if training.accelerator.is_main_process:
        _tell(training, arguments, bool(code), seconds)
    training.close()
    return code


def _tasks() -> "Registry[BuildTask]":
    quiet_libraries()  # before the first of them is imported
    from sfumato.train.registry import TASKS

    return TASKS


def _train(training: "Run", minutes: float | None) -> int:
    """Returns 0, or 128 and the number of the signal that stopped it; the run has then written its checkpoint."""
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
    """Share done, of 1, and the words: step, rate, remaining time, losses."""
    rate = (report.step - began_at) / max(elapsed, 1e-9)
    by_steps = (training.recipe.run.steps - report.step) / rate
    remaining = min(by_steps, math.inf if minutes is None else max(0.0, 60 * minutes - elapsed))
    samples = report.samples / report.step * rate
    losses = "  ".join(f"{name} {value:.4f}" for name, value in report.scalars.items() if name.endswith("loss"))
    text = f"step {report.step}  {samples:.1f} samples/s  {duration(remaining)} left  {losses}"
    return elapsed, elapsed + remaining, text


def _tell(training: "Run", arguments: Namespace, stopped: bool, seconds: float) -> None:
    """What was done on stdout, an early end on stderr."""
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
        remark(f"stopped; the newest checkpoint is {newest}, and the same command goes on from there.")
