"""Cost of one edit of one real image, including the inversion: sfumato and the loop of each method's official code.

    python benchmarks/editing.py --model emoji --threads 1 --out out/benchmark-editing.json

Both implementations use the same network, image, prompts, steps, skip and guidance scales. They alternate (sfumato,
official, sfumato with the next edit, ...), so that other load on the machine affects both equally; medians and ratios
of medians are printed. sfumato is measured through its Python interface with the default options of the methods. The
official code is represented by the loops in `benchmarks/loops.py`, which make the same calls with the same batch sizes
but omit the attention control; including it would increase the ratios. Edits with inversions without noise maps start
at T, and invert without guidance, in both implementations. Plug-and-Play's code inverts with 1000 steps by default and
reads the latents of the edit's steps from them, which would add 1000 - steps calls with batch size 1; here it inverts
with the steps of the edit. pix2pix-zero is conditioned on the target prompt in the official loop and on a saved
direction in sfumato; encoding the sentences for the direction is not timed.
Rows of backward passes through the network are counted separately. `--quick` is a smoke test on a tiny random model.
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
from sfumato.methods.pix2pix_zero import Pix2PixZeroParams, directions
from sfumato.models.diffusion_model import DiffusionModel
from sfumato.models.load import load_model
from sfumato.options.inversions import DETERMINISTIC

COLUMNS = ("seconds", "times", "CPU seconds", "times", "calls", "rows", "times", "backward rows")


@dataclass(frozen=True)
class Edit:
    """One method with one inversion, and the official loop that it is compared with.

    Attributes:
        method: name of the method in sfumato.
        inversion: name of the inversion in sfumato.
        loop: loop of the official code.
    """

    method: str
    inversion: str
    loop: Loop[Any]

    def options(self, task: Task, folder: Path) -> dict[str, Any]:
        """Options of the method in sfumato; skip 0 and no source guidance for deterministic inversions."""
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
    """The cost of one edit in sfumato and in the official loop."""

    ours: Outcome
    official: Outcome

    @property
    def problem(self) -> str:
        """Reason why one of them could not run, or ""."""
        return self.ours.problem or self.official.problem

    def times(self) -> dict[str, float]:
        """Cost of the official loop divided by that of sfumato: median seconds, median CPU seconds, rows."""
        return {
            "seconds": self.official.seconds / self.ours.seconds,
            "cpu_seconds": median(self.official.cpu_seconds) / median(self.ours.cpu_seconds),
            "rows": self.official.samples / self.ours.samples,
        }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="+", choices=list(EDITS), help="only these edits")
    return flags.parse_args(words)


def run(task: Task, names: Sequence[str], repeats: int, folder: Path) -> tuple[dict[str, Pair], int]:
    """Measure both implementations of every edit alternately, after a warm-up round that also counts evaluations.

    The direction for pix2pix-zero is saved in `folder`.

    Returns:
        The costs of every edit, and the number of complete rounds.
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
    """Save the direction of pix2pix-zero, computed from the two prompts."""
    found = directions(network, network.condition(task.source), network.condition(task.target), Pix2PixZeroParams())
    found[0].save(folder / DIRECTION)


def as_table(pairs: dict[str, Pair]) -> str:
    """The costs as a Markdown table: "sfumato / official loop", and their ratio."""
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
    """All results as JSON values, including the single measurements."""
    edits = {name: asdict(pair) | {"times": None if pair.problem else pair.times()} for name, pair in pairs.items()}
    return {"environment": where, "task": about(task), "edits": edits}


def work(given: argparse.Namespace) -> None:
    """Measure, print and write the results."""
    with opened(given) as (task, beside):
        where = environment(task.device)
        pairs, done = run(task, given.only or list(EDITS), given.repeats, beside)
    fragment = (
        f"{headline(task, where)}; median of {done}; sfumato / official loop, and their ratio.\n\n{as_table(pairs)}\n"
    )
    publish(given, fragment, as_json(task, pairs, where))


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
