"""`sfumato train`: run a recipe, go on with an earlier run, export what it learned."""

import math
import signal
import time
from argparse import Namespace
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sfumato.cli.parser import CommandParser, real, suggestion
from sfumato.cli.progress import duration, progress
from sfumato.cli.report import print_json
from sfumato.cli.signals import StopRequest, stop_between_steps
from sfumato.errors import BadInput

if TYPE_CHECKING:
    from sfumato.train.loop import Run, StepReport

KINDS = ("autoencoder", "dual-encoder", "diffusion")
_DEVICES = ("auto", "cpu", "cuda")


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """What is trained, its recipe, its folder and for how long."""
    parser.usage = f"sfumato train {'|'.join(KINDS)} RECIPE --out FOLDER [options]"
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
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
    """Train; ends with a checkpoint and an export, also after Ctrl-C and SIGTERM (checkpoint only)."""
    if arguments.kind not in KINDS:
        raise BadInput(f"{arguments.kind!r} cannot be trained{suggestion(arguments.kind, KINDS)}.")
    if arguments.device not in _DEVICES:
        raise BadInput(f"there is no device {arguments.device!r} to train on: give auto, cpu or cuda.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise BadInput(f"{arguments.out} is a file: name a folder for the run.")
    from sfumato.train.start import start

    device = None if arguments.device == "auto" else arguments.device
    training = start(arguments.recipe, arguments.out, arguments.kind, device)
    first = training.accelerator.is_main_process
    if arguments.export_only and training.step == 0:
        raise BadInput(f"{arguments.out} holds no checkpoint to export: train first.")
    stopped, seconds = (0, 0.0) if arguments.export_only else _train(training, arguments.minutes, first)
    export = None if stopped else arguments.out / "export"
    if export is not None:
        training.export(export)
    if first:
        _tell(training, arguments, stopped, export, seconds)
    return 128 + stopped if stopped else 0


def _train(training: "Run", minutes: float | None, first: bool) -> tuple[int, float]:
    """-> (the signal that stopped it, or 0; seconds)."""
    began, began_at = time.monotonic(), training.step
    with (
        stop_between_steps() as request,
        progress(wanted=first) as show,
        closing(cast("Generator[StepReport]", training.steps(minutes))) as steps,  # closing writes the checkpoint
    ):
        for report in steps:
            elapsed = time.monotonic() - began
            show(*_state(training, report, began_at, elapsed, minutes))
            if _agreed(training, request):
                break
    return request.signal or 0, time.monotonic() - began


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


def _agreed(training: "Run", request: StopRequest) -> bool:
    """Whether any process was asked to stop: they must leave the loop at the same step."""
    accelerator = training.accelerator
    if accelerator.num_processes == 1:
        return bool(request)
    import torch

    signals = accelerator.gather(torch.tensor([int(request.signal)], device=accelerator.device))
    request.signal = int(signals.max())
    return bool(request)


def _tell(training: "Run", arguments: Namespace, stopped: int, export: Path | None, seconds: float) -> None:
    import sys

    checkpoints = arguments.out / "checkpoints"
    if arguments.json:
        print_json(
            {
                "kind": arguments.kind,
                "step": training.step,
                "samples": training.samples,
                "seconds": round(seconds, 3),
                "checkpoints": checkpoints,
                "export": export,
                "stopped_by": signal.Signals(stopped).name if stopped else None,
            }
        )
    elif export is not None:
        print(f"step {training.step}, {training.samples} samples: exported to {export}")
    if stopped:
        print(
            f"sfumato: stopped at step {training.step} with a checkpoint in {checkpoints}; "
            "the same command goes on from there.",
            file=sys.stderr,
        )
