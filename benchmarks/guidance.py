"""Cost of energy guidance in sfumato and in reimplemented loops of the public code of each method, and its memory.

    python benchmarks/guidance.py --model emoji --threads 1 --page docs/papers/guidance_cost.md
    python benchmarks/guidance.py --memory

The first command generates one image with each method, and edits one image with DiffuseIT and Asyrp
(`benchmarks/guidance_edits.py`), including its inversion. Both implementations use the same network, prompt and steps
and alternate, so that other load on the machine affects both equally; medians and ratios of medians are printed. The
loops are in `benchmarks/guidance_loops.py`, `diffuseit_loop.py` and `asyrp_loop.py`. Rows of backward passes are
counted separately. The second command counts the memory that one gradient step keeps for its backward pass at the size
of Stable Diffusion 1.5, with and without gradient checkpointing (`benchmarks/guidance_memory.py`). `--quick` is a smoke
test on a tiny random model.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from benchmarks import guidance_edits
from benchmarks.guidance_edits import Pair
from benchmarks.guidance_loops import AttendAndExcite, Loop, Notebook, OneByOne, Scene
from benchmarks.guidance_memory import as_table as memory_table
from benchmarks.report import add_measuring, environment, measured, publish, table
from benchmarks.rounds import Edits, Outcome, count, rounds, warm_up
from benchmarks.task import model_folder, quicken
from sfumato.api import Model
from sfumato.editing.job import Job
from sfumato.images import to_uint8
from sfumato.models.load import load_model
from sfumato.options.named_objects import presence
from sfumato.options.objects import word_of
from sfumato.shifts.energy.centroid import Centroid
from sfumato.shifts.energy.pairs import AttributeBinding, ObjectOverlap
from sfumato.shifts.energy.size import Size
from sfumato.shifts.energy.term import Term

PROMPT = "red heart and blue cat, noto"
COLUMNS = ("seconds", "times", "CPU seconds", "times", "calls", "rows", "times", "backward rows")
WINDOW = {"schedule": "window", "start": 0.0, "end": 0.5}


def placed(job: Job) -> list[Term]:
    """Self-Guidance: position and size of one object."""
    heart = word_of(job, "heart")
    return [Centroid(heart, at=(0.3, 0.5)), Size(heart, share=0.2)]


def neglected(job: Job) -> list[Term]:
    """Attend-and-Excite: presence of that of two objects with the weaker attention."""
    return [presence(job, [["heart"], ["cat"]], published=True)]


def five(job: Job) -> list[Term]:
    """Five energies: position and size of an object, presence and separation of two objects, attribute binding."""
    heart, cat, red = (word_of(job, name) for name in ("heart", "cat", "red"))
    both = presence(job, [["heart"], ["cat"]], published=False)
    return [*placed(job), both, ObjectOverlap((heart, cat)), AttributeBinding(red, heart)]


CASES: dict[str, tuple[type[Loop], Callable[[Job], list[Term]], list[tuple[str, dict[str, Any]]]]] = {
    "self-guidance": (
        Notebook,
        placed,
        [("self-guidance", {"place": "heart: 0.3, 0.5", "cover": "heart: 0.2", **WINDOW})],
    ),
    "attend-and-excite": (AttendAndExcite, neglected, [("attend-and-excite", {"objects": "heart, cat"})]),
    "five energies": (
        OneByOne,
        five,
        [
            ("self-guidance", {"place": "heart: 0.3, 0.5", "cover": "heart: 0.2", **WINDOW}),
            ("objects", {"objects": "red heart, cat"}),
        ],
    ),
}
"""The public loop, its energy terms, and the equivalent methods of sfumato."""


class Ours:
    """Generation with methods through the Python interface."""

    def __init__(self, scene: Scene, methods: list[tuple[str, dict[str, Any]]]) -> None:
        self.scene, self.methods = scene, methods
        self.model, self.unet = Model(scene.network), scene.network.unet

    def invert(self) -> None:
        """Do nothing, because the image is generated."""

    def edit(self) -> Image.Image:
        """Generate and decode."""
        scene = self.scene
        options: dict[str, Any] = {"steps": scene.steps, "guidance_scale": scene.guidance_scale, "seed": scene.seed}
        return self.model.generate(scene.prompt, methods=self.methods, **options).images[0]


class Theirs:
    """Generation with a reimplemented loop of public code."""

    def __init__(self, scene: Scene, kind: type[Loop], terms: Callable[[Job], list[Term]]) -> None:
        self.scene, self.loop, self.unet = scene, kind(scene, terms), scene.network.unet

    def invert(self) -> None:
        """Do nothing, because the image is generated."""

    @torch.no_grad()
    def edit(self) -> Image.Image:
        """Generate and decode."""
        return Image.fromarray(to_uint8(self.scene.network.decode(self.loop.run())))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--model", default="emoji", help="bundled name or Stable Diffusion folder")
    flags.add_argument("--steps", type=int, default=50, help="steps of a run; default 50")
    flags.add_argument("--guidance", dest="guidance_scale", type=float, default=5.0, help="guidance scale; default 5")
    flags.add_argument("--memory", action="store_true", help="count the memory of a gradient step instead")
    add_measuring(flags, repeats=3)
    return flags.parse_args(words)


def contenders(scene: Scene) -> dict[str, Pair]:
    """Both contenders of every generation."""
    return {
        name: (partial(Ours, scene, methods), partial(Theirs, scene, kind, terms))
        for name, (kind, terms, methods) in CASES.items()
    }


def run(contenders: Mapping[str, Pair], repeats: int, device: str) -> tuple[dict[str, tuple[Outcome, Outcome]], int]:
    """Measure both implementations alternately, after a warm-up round that also counts evaluations."""
    pairs = {name: (Outcome(), Outcome()) for name in contenders}
    makers: dict[str, Callable[[], Edits]] = {}
    outcomes: dict[str, Outcome] = {}
    for name, both in contenders.items():
        names = (name, f"{name}, public")
        makers |= dict(zip(names, both, strict=True))
        outcomes |= dict(zip(names, pairs[name], strict=True))
    return pairs, rounds(warm_up(makers, outcomes, count), outcomes, repeats, device)


def as_table(pairs: dict[str, tuple[Outcome, Outcome]]) -> str:
    """The costs as a Markdown table: "sfumato / public loop", and their ratio."""
    return table(COLUMNS, {name: _cells(*pair) for name, pair in pairs.items()})


def _cells(ours: Outcome, theirs: Outcome) -> list[str]:
    if problem := ours.problem or theirs.problem:
        return [problem]
    cpu = median(ours.cpu_seconds), median(theirs.cpu_seconds)
    return [
        f"{ours.seconds:.2f} / {theirs.seconds:.2f}",
        f"{theirs.seconds / ours.seconds:.2f}",
        f"{cpu[0]:.2f} / {cpu[1]:.2f}",
        f"{cpu[1] / cpu[0]:.2f}",
        f"{ours.calls} / {theirs.calls}",
        f"{ours.samples} / {theirs.samples}",
        f"{theirs.samples / ours.samples:.2f}",
        f"{ours.backward} / {theirs.backward}",
    ]


def work(given: argparse.Namespace) -> None:
    """Measure, print and write the results."""
    if given.memory:
        print(memory_table())
        return
    where = environment(given.device)
    with TemporaryDirectory() as beside:
        if given.quick:
            given.steps = 4
            quicken(argparse.Namespace(steps=4, skip=0, source_guidance_scale=1.0, guidance_scale=2.0), Path(beside))
            given.model, given.repeats = str(Path(beside) / "tiny"), 1
        folder = model_folder(given.model)
        scene = Scene(load_model(folder, given.device), PROMPT, given.steps, given.guidance_scale)
        task = guidance_edits.task_of(folder, given.steps, given.device)
        both = contenders(scene) | guidance_edits.contenders(task, scene.network, Path(beside))
        pairs, done = run(both, given.repeats, scene.network.device.type)
    height, width = scene.network.native_size
    headline = (
        f"{folder.name}, one image of {width} x {height} pixels, {scene.steps} steps, guidance scale "
        f"{scene.guidance_scale:g} (edits: none); {where['device']}, {where['threads']} threads, {where['cpu']}, "
        f"load {where['load']:.1f}; torch {where['torch']}; median of {done}; sfumato / public loop, and their ratio."
    )
    everything = {
        "environment": where,
        "cases": {name: [asdict(each) for each in pair] for name, pair in pairs.items()},
    }
    publish(given, f"{headline}\n\n{as_table(pairs)}\n", everything)


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
