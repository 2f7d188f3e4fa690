"""Inverting and editing one real image: sfumato against what one would pick instead, in one run, on the same weights.

    python benchmarks/inversion.py --model emoji --out out/benchmark-inversion.json

Contenders run in turns (A B C A B C ...), so that a busy machine slows all of them; medians and ratios of medians are
printed. Network evaluations are counted by a hook on the U-Net: calls, and rows of all calls together. The memory of
each is measured in a process of its own. `--quick` shows that it runs, on a tiny random model.
"""

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
from PIL import Image

import sfumato
from benchmarks.contenders import CONTENDERS, Contender, Task
from benchmarks.memory import Peak, memory_of
from papers.page import insert
from sfumato.bench.contenders import counted
from sfumato.errors import BadInput
from sfumato.examples import examples
from sfumato.images import read_image
from sfumato.models.bundled import list_models, read_settings

REFERENCE = "sfumato"


@dataclass
class Outcome:
    """What one contender took; `problem` says why it could not run.

    The CPU's seconds are those of all threads, inversion and edit together: they count the work where others keep the
    machine busy.
    """

    invert_seconds: list[float] = field(default_factory=list)
    edit_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    calls: int = 0
    samples: int = 0
    error_max: float | None = None
    error_rms: float | None = None
    memory: Peak = field(default_factory=Peak)
    problem: str = ""

    @property
    def seconds(self) -> float:
        """Median of inversion and edit together."""
        return median(a + b for a, b in zip(self.invert_seconds, self.edit_seconds, strict=True))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="emoji", help="bundled name or Stable Diffusion folder")
    parser.add_argument("--image", help="a real image; the first of the package's examples by default")
    parser.add_argument("--from", dest="source", help="what it shows")
    parser.add_argument("--to", dest="target", help="what it shall show")
    parser.add_argument(
        "--size", type=_size, help="pixels, 64 or 96x64 (width x height); the model's native size by default"
    )
    parser.add_argument("--steps", type=int, help="steps of a run; the model's own default")
    parser.add_argument("--skip", type=int, help="steps that the edit leaves out; the model's own default")
    parser.add_argument("--source-strength", type=float, help="guidance of the source prompt; the model's own default")
    parser.add_argument("--strength", type=float, help="guidance of the target prompt; the model's own default")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    parser.add_argument("--repeats", type=int, default=5, help="measured rounds, after one that is not")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="these contenders alone")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes a process each")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    parser.add_argument("--page", type=Path, help="Markdown page to put the table into")
    parser.add_argument("--quick", action="store_true", help="a tiny random model, few steps, one round, no memory")
    return parser.parse_args(words)


def make_task(given: argparse.Namespace, folder: Path) -> Task:
    """The edit, from the command line, the model's own defaults and the paper's.

    Raises:
        BadInput: an image without prompts, or steps that cannot be.
    """
    shipped = examples()[0]
    if given.image and not (given.source and given.target):
        raise BadInput("Give --from and --to with --image.")
    own = {"steps": 100, "skip": 36, "source_strength": 3.5, "strength": 15.0} | read_settings(folder).get("edit", {})
    values = {name: own[name] for name in ("steps", "skip", "source_strength", "strength")}
    values |= {name: getattr(given, name) for name in values if getattr(given, name) is not None}
    if not 0 <= values["skip"] < values["steps"]:
        raise BadInput(f"--skip must be between 0 and {values['steps'] - 1}, not {values['skip']}.")
    image = Image.fromarray(read_image(given.image or shipped.path).rgb)
    return Task(
        folder=folder,
        image=image.resize(given.size or native_size(folder), Image.Resampling.LANCZOS),
        source=given.source or shipped.source,
        target=given.target or shipped.target,
        device=given.device,
        **values,
    )


def model_folder(name: str) -> Path:
    """The folder of a bundled model, or the folder itself.

    Raises:
        BadInput: it is no Stable Diffusion pipeline, which all contenders need.
    """
    bundled = {model.name: model.folder for model in list_models()}
    folder = bundled.get(name, Path(name))
    if not all((folder / part).is_dir() for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")):
        raise BadInput(
            f"{name} must be a Stable Diffusion pipeline folder, which diffusers opens too, or a bundled model."
        )
    return folder


def native_size(folder: Path) -> tuple[int, int]:
    """(width, height) in pixels that the network was trained on."""
    unet = json.loads((folder / "unet/config.json").read_text())
    levels = json.loads((folder / "vae/config.json").read_text())["block_out_channels"]
    side = int(unet["sample_size"]) * 2 ** (len(levels) - 1)
    return side, side


def run(task: Task, names: Sequence[str], repeats: int) -> dict[str, Outcome]:
    """Rounds of all contenders in turn; the first round warms up, counts, and measures the reconstruction."""
    outcomes, ready = {name: Outcome() for name in names}, {}
    for name in names:
        try:
            ready[name] = CONTENDERS[name](task)
            _first(ready[name], outcomes[name])
        except (BadInput, ValueError, RuntimeError) as error:
            outcomes[name].problem = str(error).splitlines()[0]
            ready.pop(name, None)
    for n in range(repeats):
        print(f"round {n + 1} of {repeats} ...", file=sys.stderr, flush=True)
        for name, contender in ready.items():
            busy = time.process_time()
            outcomes[name].invert_seconds.append(_seconds(contender.invert, task.device))
            outcomes[name].edit_seconds.append(_seconds(contender.edit, task.device))
            outcomes[name].cpu_seconds.append(time.process_time() - busy)
    return outcomes


def _first(contender: Contender, outcome: Outcome) -> None:
    with counted(contender.unet) as rows:
        contender.invert()
        contender.edit()
    outcome.calls, outcome.samples = len(rows), sum(rows)
    error = contender.reconstruction_error()
    if error is not None:
        outcome.error_max, outcome.error_rms = float(error.abs().max()), float(error.square().mean().sqrt())


def _seconds(work: Any, device: str) -> float:
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def environment(device: str) -> dict[str, Any]:
    """The machine, and how busy it is."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0].partition(": ")[2] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "sfumato": sfumato.__version__,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def as_table(outcomes: dict[str, Outcome]) -> str:
    """Markdown: median seconds, how many times as long as sfumato, evaluations, error, memory (the work's)."""
    columns = ["invert s", "edit s", "both s", "times sfumato", "CPU s", "calls", "samples"]
    columns += ["error max", "error rms", "peak MiB"]
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name, outcome in outcomes.items():
        cells = [outcome.problem or "not timed"] if not outcome.edit_seconds else _cells(outcomes, outcome)
        lines.append(f"| {name} | {' | '.join(cells + [''] * (len(columns) - len(cells)))} |")
    return "\n".join(lines)


def _cells(outcomes: dict[str, Outcome], outcome: Outcome) -> list[str]:
    ratio, memory = _ratio(outcomes, outcome), outcome.memory
    if memory.peak is None or memory.before is None:
        peak = "-"
    else:
        peak = f"{memory.peak:.0f} (+{memory.peak - memory.before:.0f})"
    return [
        f"{median(outcome.invert_seconds):.2f}",
        f"{median(outcome.edit_seconds):.2f}",
        f"{outcome.seconds:.2f}",
        "-" if ratio is None else f"{ratio:.2f}",
        f"{median(outcome.cpu_seconds):.2f}",
        str(outcome.calls),
        str(outcome.samples),
        *("-" if e is None else f"{e:.1e}" for e in (outcome.error_max, outcome.error_rms)),
        peak,
    ]


def _ratio(outcomes: dict[str, Outcome], outcome: Outcome) -> float | None:
    reference = outcomes.get(REFERENCE)
    return outcome.seconds / reference.seconds if reference and reference.edit_seconds else None


def as_json(task: Task, outcomes: dict[str, Outcome], where: dict[str, Any]) -> dict[str, Any]:
    """Everything, the single measurements too."""
    about = {name: value for name, value in vars(task).items() if name not in ("folder", "image")}
    timed = {name: outcome for name, outcome in outcomes.items() if outcome.edit_seconds}
    summary = {
        name: {"median_seconds": outcome.seconds, "times_sfumato": _ratio(outcomes, outcome)}
        for name, outcome in timed.items()
    }
    return {
        "environment": where,
        "task": about | {"model": task.folder.name, "width": task.image.width, "height": task.image.height},
        "outcomes": {name: asdict(outcome) | summary.get(name, {}) for name, outcome in outcomes.items()},
    }


def _headline(task: Task, where: dict[str, Any]) -> str:
    return (
        f"{task.folder.name}, {task.image.width} x {task.image.height} pixels, {task.steps} steps, skip {task.skip}, "
        f"guidance {task.source_strength:g} and {task.strength:g}; {where['device']}, {where['threads']} threads, "
        f"{where['cpu']} with {where['cores']} cores, load {where['load']:.1f}; torch {where['torch']}, "
        f"diffusers {where['diffusers']}"
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def main(words: Sequence[str] | None = None) -> int:
    """Run, print, write. Returns an exit code."""
    given = arguments(words)
    if given.threads:
        torch.set_num_threads(given.threads)
    try:
        with tempfile.TemporaryDirectory() as beside:
            if given.quick:
                _quicken(given, Path(beside))
            task = make_task(given, model_folder(given.model))
            where = environment(task.device)
            outcomes = run(task, given.only or list(CONTENDERS), given.repeats)
            for name, outcome in outcomes.items():
                if not (given.no_memory or outcome.problem):
                    outcome.memory = memory_of(name, task, where["threads"])
    except BadInput as error:
        print(f"inversion.py: {error}", file=sys.stderr)
        return 2
    fragment = f"{_headline(task, where)}; median of {given.repeats}.\n\n{as_table(outcomes)}\n"
    print(fragment)
    if given.page is not None:
        insert(given.page, fragment)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(as_json(task, outcomes, where), indent=1) + "\n", encoding="utf-8")
    return 0


def _quicken(given: argparse.Namespace, folder: Path) -> None:
    """The smallest settings at which everything still happens."""
    from tests.tiny import tiny_sd  # the tests' random weights, which nobody else needs

    given.model, given.no_memory = str(tiny_sd(folder / "tiny")), True
    given.steps, given.skip, given.repeats = given.steps or 6, given.skip or 2, 1
    given.source_strength, given.strength = given.source_strength or 1.5, given.strength or 2.0


if __name__ == "__main__":
    sys.exit(main())
