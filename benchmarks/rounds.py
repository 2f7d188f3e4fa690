"""What the benchmarks of editing have in common: one task, rounds of all contenders in turn, what is said about them.

Contenders run in turns (A B C A B C ...), so that a busy machine slows all of them. Network evaluations are counted by
hooks on the U-Net: calls, rows of all calls together, and rows that a gradient was carried back through.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol, TypeVar

import diffusers
import torch
from PIL import Image
from torch import Tensor

import sfumato
from papers.page import insert
from sfumato.bench.contenders import Task, counted
from sfumato.errors import BadInput
from sfumato.examples import examples
from sfumato.images import read_image
from sfumato.models.bundled import list_models, read_settings


class Edits(Protocol):
    """Inverts the image, then edits it; both can be repeated."""

    unet: torch.nn.Module

    def invert(self) -> None:
        """From the image to what the edit needs, encoding included."""

    def edit(self) -> Image.Image:
        """The edited image, decoding included."""


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
    backward: int = 0
    problem: str = ""

    @property
    def timed(self) -> bool:
        """Whether there is a median."""
        return bool(self.edit_seconds)

    @property
    def seconds(self) -> float:
        """Median of inversion and edit together."""
        return median(a + b for a, b in zip(self.invert_seconds, self.edit_seconds, strict=True))


Ready = TypeVar("Ready", bound=Edits)
Told = TypeVar("Told", bound=Outcome)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of every benchmark of editing; the first line of `description` says what this one does."""
    found = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    found.add_argument("--model", default="emoji", help="bundled name or Stable Diffusion folder")
    found.add_argument("--image", help="a real image; the first of the package's examples by default")
    found.add_argument("--from", dest="source", help="what it shows")
    found.add_argument("--to", dest="target", help="what it shall show")
    found.add_argument(
        "--size", type=_size, help="pixels, 64 or 96x64 (width x height); the model's native size by default"
    )
    found.add_argument("--steps", type=int, help="steps of a run; the model's own default")
    found.add_argument("--skip", type=int, help="steps that the edit leaves out; the model's own default")
    found.add_argument("--source-strength", type=float, help="guidance of the source prompt; the model's own default")
    found.add_argument("--strength", type=float, help="guidance of the target prompt; the model's own default")
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    found.add_argument("--repeats", type=int, default=5, help="measured rounds, after one that is not")
    found.add_argument("--out", type=Path, help="write everything as JSON")
    found.add_argument("--page", type=Path, help="Markdown page to put the table into")
    return found


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


def quicken(given: argparse.Namespace, folder: Path) -> None:
    """The smallest settings at which everything still happens, on a tiny random model that is written into `folder`."""
    from tests.tiny import tiny_sd  # the tests' random weights, which nobody else needs

    given.model, given.repeats = str(tiny_sd(folder / "tiny")), 1
    given.steps, given.skip = given.steps or 6, 2 if given.skip is None else given.skip
    given.source_strength, given.strength = given.source_strength or 1.5, given.strength or 2.0


def warm_up(
    makers: Mapping[str, Callable[[], Ready]],
    outcomes: Mapping[str, Told],
    first: Callable[[Ready, Told], None],
) -> dict[str, Ready]:
    """Make the contenders and let each do its work once, by `first`; those that cannot are left out, and say why."""
    ready = {}
    for name, make in makers.items():
        try:
            contender = make()
            first(contender, outcomes[name])
            ready[name] = contender
        except (BadInput, ValueError, RuntimeError) as error:
            outcomes[name].problem = str(error).splitlines()[0]
    return ready


def count(contender: Edits, outcome: Outcome) -> None:
    """One inversion and edit, its evaluations counted."""
    with counted(contender.unet) as rows, carried_back(contender.unet) as backward:
        contender.invert()
        contender.edit()
    outcome.calls, outcome.samples, outcome.backward = len(rows), sum(rows), sum(backward)


@contextmanager
def carried_back(network: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of every gradient that reaches the network's input within the block, one number per backward pass."""
    rows: list[int] = []

    def watch(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda gradient: rows.append(len(gradient)))

    hook = network.register_forward_pre_hook(watch)
    try:
        yield rows
    finally:
        hook.remove()


def rounds(ready: Mapping[str, Edits], outcomes: Mapping[str, Outcome], repeats: int, device: str) -> int:
    """All contenders in turn, `repeats` times or until Ctrl-C; returns how many rounds are complete, which count.

    Raises:
        KeyboardInterrupt: before the first was complete.
    """
    for n in range(repeats):
        print(f"round {n + 1} of {repeats} ...", file=sys.stderr, flush=True)
        try:
            took = {name: _once(contender, device) for name, contender in ready.items()}
        except KeyboardInterrupt:
            if n == 0:
                raise
            return n
        for name, (invert, edit, cpu) in took.items():
            outcomes[name].invert_seconds.append(invert)
            outcomes[name].edit_seconds.append(edit)
            outcomes[name].cpu_seconds.append(cpu)
    return repeats


def _once(contender: Edits, device: str) -> tuple[float, float, float]:
    """Seconds of the inversion, of the edit, and of the CPU."""
    busy = time.process_time()
    invert, edit = _seconds(contender.invert, device), _seconds(contender.edit, device)
    return invert, edit, time.process_time() - busy


def _seconds(work: Callable[[], object], device: str) -> float:
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


def headline(task: Task, where: Mapping[str, Any]) -> str:
    """The task and the machine, in one line."""
    return (
        f"{task.folder.name}, {task.image.width} x {task.image.height} pixels, {task.steps} steps, skip {task.skip}, "
        f"guidance {task.source_strength:g} and {task.strength:g}; {where['device']}, {where['threads']} threads, "
        f"{where['cpu']} with {where['cores']} cores, load {where['load']:.1f}; torch {where['torch']}, "
        f"diffusers {where['diffusers']}"
    )


def about(task: Task) -> dict[str, Any]:
    """The task as JSON values."""
    kept = {name: value for name, value in vars(task).items() if name not in ("folder", "image")}
    return kept | {"model": task.folder.name, "width": task.image.width, "height": task.image.height}


def table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Markdown: a name and its cells in every line; missing cells stay empty."""
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name, cells in rows.items():
        lines.append(f"| {name} | {' | '.join([*cells, *[''] * (len(columns) - len(cells))])} |")
    return "\n".join(lines)


def publish(given: argparse.Namespace, fragment: str, everything: Mapping[str, Any]) -> None:
    """Print what stands on the page; put it there and write the JSON where the command line says so.

    Raises:
        BadInput: the page is not there or lacks its marks.
    """
    print(fragment)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if given.page is not None:
        insert(given.page, fragment)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height or width)
