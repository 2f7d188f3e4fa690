"""What one edit of one real image costs, inversion included: sfumato against the loop of a method's official code.

    python benchmarks/editing.py --model emoji --threads 1 --out out/benchmark-editing.json

Both sides run on the same network with the same image, prompts, steps, skip and guidance scales, in turns (ours,
theirs, the next edit's ...), so that a busy machine slows both; medians and ratios of medians are printed. Ours goes
through the Python interface with the methods' own defaults. Theirs are the loops in `benchmarks/loops.py`: calls and
rows of the official code without its attention control, which costs them alone, so the ratios are smaller than they
would be with it. Inversions without noise maps start at T without guidance on both sides. Plug-and-Play's default
inverts with 1000 steps and reads the latents of its edit's steps from them, which would add 1000 - steps calls of one
row to its side; here it inverts with the steps of the edit. pix2pix-zero is conditioned on the target prompt in their
loop and on a direction that was saved before in ours: banks of sentences are not timed. A gradient that is carried back
through the network is counted by itself, in rows. `--quick` shows that it runs, on a tiny random model.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import loops
from benchmarks.contenders import Official, Ours
from benchmarks.loops import Loop
from benchmarks.report import environment, measured, publish, table
from benchmarks.rounds import Edits, Outcome, count, rounds, warm_up
from benchmarks.task import about, headline, opened, parser
from sfumato.bench.contenders import Task
from sfumato.methods.inversions import DETERMINISTIC
from sfumato.methods.pix2pix_zero import Pix2PixZeroParams, directions
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model

COLUMNS = ("seconds", "times", "CPU seconds", "times", "calls", "rows", "times", "backward rows")


@dataclass(frozen=True)
class Edit:
    """One method over one inversion, and what it is measured against.

    Attributes:
        method: of this package.
        inversion: of this package.
        loop: of the official code.
    """

    method: str
    inversion: str
    loop: Loop

    def options(self, task: Task, folder: Path) -> dict[str, Any]:
        """Of our method: the task's where the inversion has noise maps, else from T and without guidance."""
        given: dict[str, Any] = {"skip": task.skip, "eta": 1.0, "source_guidance_scale": task.source_guidance_scale}
        if self.inversion in DETERMINISTIC:
            given = {"skip": 0, "eta": 0.0, "source_guidance_scale": 1.0}
        if self.method != self.inversion:
            given["inversion"] = self.inversion
        if self.method == "pix2pix-zero":
            given["direction_file"] = str(folder / DIRECTION)
        return given


EDITS = {
    "edit-friendly": Edit("edit-friendly", "edit-friendly", loops.EDIT_FRIENDLY),
    "prompt-to-prompt, edit-friendly": Edit("prompt-to-prompt", "edit-friendly", loops.PROMPT_TO_PROMPT_EDIT_FRIENDLY),
    "prompt-to-prompt, ddim": Edit("prompt-to-prompt", "ddim", loops.PROMPT_TO_PROMPT_DDIM),
    "plug-and-play, ddim": Edit("plug-and-play", "ddim", loops.PLUG_AND_PLAY_DDIM),
    "plug-and-play, edit-friendly": Edit("plug-and-play", "edit-friendly", loops.PLUG_AND_PLAY_EDIT_FRIENDLY),
    "pix2pix-zero": Edit("pix2pix-zero", "regularised", loops.PIX2PIX_ZERO),
}
DIRECTION = "direction.safetensors"


@dataclass(frozen=True)
class Pair:
    """What one edit took us and them."""

    ours: Outcome
    official: Outcome

    @property
    def problem(self) -> str:
        """Why one of them could not run."""
        return self.ours.problem or self.official.problem

    def times(self) -> dict[str, float]:
        """How many times as much the official loop takes: medians of seconds and of CPU seconds, rows."""
        return {
            "seconds": self.official.seconds / self.ours.seconds,
            "cpu_seconds": median(self.official.cpu_seconds) / median(self.ours.cpu_seconds),
            "rows": self.official.samples / self.ours.samples,
        }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="+", choices=list(EDITS), help="these edits alone")
    return flags.parse_args(words)


def run(task: Task, names: Sequence[str], repeats: int, folder: Path) -> tuple[dict[str, Pair], int]:
    """Rounds of both sides of every edit in turn, after one to warm up and count; returns their number, too.

    A direction for pix2pix-zero is saved in `folder`.
    """
    network = load_model(task.folder, task.device)
    _save_direction(network, task, folder)
    pairs = {name: Pair(Outcome(), Outcome()) for name in names}
    makers: dict[str, Callable[[], Edits]] = {}
    outcomes: dict[str, Outcome] = {}
    for name, pair in pairs.items():
        edit = EDITS[name]
        makers[name] = partial(Ours, task, network, edit.method, **edit.options(task, folder))
        makers[f"{name}, official"] = partial(Official, task, network, edit.loop)
        outcomes |= {name: pair.ours, f"{name}, official": pair.official}
    done = rounds(warm_up(makers, outcomes, count), outcomes, repeats, task.device)
    return pairs, done


def _save_direction(network: DiffusionModel, task: Task, folder: Path) -> None:
    """pix2pix-zero's, from the two prompts."""
    found = directions(network, network.condition(task.source), network.condition(task.target), Pix2PixZeroParams())
    found[0].save(folder / DIRECTION)


def as_table(pairs: dict[str, Pair]) -> str:
    """Markdown: "ours / theirs" of everything, and theirs over ours."""
    return table(COLUMNS, {name: [pair.problem] if pair.problem else _cells(pair) for name, pair in pairs.items()})


def _cells(pair: Pair) -> list[str]:
    ours, official, times = pair.ours, pair.official, pair.times()
    return [
        f"{ours.seconds:.2f} / {official.seconds:.2f}",
        f"{times['seconds']:.2f}",
        f"{median(ours.cpu_seconds):.2f} / {median(official.cpu_seconds):.2f}",
        f"{times['cpu_seconds']:.2f}",
        f"{ours.calls} / {official.calls}",
        f"{ours.samples} / {official.samples}",
        f"{times['rows']:.2f}",
        f"{ours.backward} / {official.backward}",
    ]


def as_json(task: Task, pairs: dict[str, Pair], where: dict[str, Any]) -> dict[str, Any]:
    """Everything, the single measurements too."""
    edits = {name: asdict(pair) | {"times": None if pair.problem else pair.times()} for name, pair in pairs.items()}
    return {"environment": where, "task": about(task), "edits": edits}


def work(given: argparse.Namespace) -> None:
    """Run, print, write."""
    with opened(given) as (task, beside):
        where = environment(task.device)
        pairs, done = run(task, given.only or list(EDITS), given.repeats, beside)
    fragment = (
        f"{headline(task, where)}; median of {done}; sfumato / official loop, and the one in times of the "
        f"other.\n\n{as_table(pairs)}\n"
    )
    publish(given, fragment, as_json(task, pairs, where))


def main(words: Sequence[str] | None = None) -> int:
    """Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, lambda: work(given))


if __name__ == "__main__":
    sys.exit(main())
