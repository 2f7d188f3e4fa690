"""Inverting and editing one real image: sfumato against what one would pick instead, in one run, on the same weights.

    python benchmarks/inversion.py --model emoji --out out/benchmark-inversion.json

Contenders run in turns (A B C A B C ...), so that a busy machine slows all of them; medians and ratios of medians are
printed. Network evaluations are counted by a hook on the U-Net: calls, and rows of all calls together. The memory of
each is measured in a process of its own. `--quick` shows that it runs, on a tiny random model.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import Any

from benchmarks.contenders import CONTENDERS, Contender, Task
from benchmarks.memory import Peak, memory_of
from benchmarks.report import environment, measured, publish, table
from benchmarks.rounds import Outcome, count, rounds, warm_up
from benchmarks.task import about, headline, opened, parser

REFERENCE = "sfumato"
COLUMNS = (
    *("invert s", "edit s", "both s", "times sfumato", "CPU s", "calls", "samples"),
    *("error max", "error rms", "peak MiB"),
)


@dataclass
class Inverted(Outcome):
    """What one contender took, and how far it brings x_0 back."""

    error_max: float | None = None
    error_rms: float | None = None
    memory: Peak = field(default_factory=Peak)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="these contenders alone")
    flags.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes a process each")
    return flags.parse_args(words)


def run(task: Task, names: Sequence[str], repeats: int) -> tuple[dict[str, Inverted], int]:
    """Rounds of all contenders in turn, after one to warm up, count and reconstruct; returns their number, too."""
    outcomes = {name: Inverted() for name in names}
    ready = warm_up({name: partial(CONTENDERS[name], task) for name in names}, outcomes, _first)
    return outcomes, rounds(ready, outcomes, repeats, task.device)


def _first(contender: Contender, outcome: Inverted) -> None:
    count(contender, outcome)
    error = contender.reconstruction_error()
    if error is not None:
        outcome.error_max, outcome.error_rms = float(error.abs().max()), float(error.square().mean().sqrt())


def as_table(outcomes: dict[str, Inverted]) -> str:
    """Markdown: median seconds, how many times as long as sfumato, evaluations, error, memory (the work's)."""
    cells = {
        name: _cells(outcomes, outcome) if outcome.timed else [outcome.problem or "not timed"]
        for name, outcome in outcomes.items()
    }
    return table(COLUMNS, cells)


def _cells(outcomes: dict[str, Inverted], outcome: Inverted) -> list[str]:
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


def _ratio(outcomes: dict[str, Inverted], outcome: Inverted) -> float | None:
    reference = outcomes.get(REFERENCE)
    return outcome.seconds / reference.seconds if reference and reference.timed else None


def as_json(task: Task, outcomes: dict[str, Inverted], where: dict[str, Any]) -> dict[str, Any]:
    """Everything, the single measurements too."""
    summary = {
        name: {"median_seconds": outcome.seconds, "times_sfumato": _ratio(outcomes, outcome)}
        for name, outcome in outcomes.items()
        if outcome.timed
    }
    return {
        "environment": where,
        "task": about(task),
        "outcomes": {name: asdict(outcome) | summary.get(name, {}) for name, outcome in outcomes.items()},
    }


def work(given: argparse.Namespace) -> None:
    """Run, print, write."""
    with opened(given) as (task, _):
        where = environment(task.device)
        outcomes, done = run(task, given.only or list(CONTENDERS), given.repeats)
        for name, outcome in outcomes.items():
            if not (given.no_memory or given.quick or outcome.problem):
                outcome.memory = memory_of(name, task, where["threads"])
    fragment = f"{headline(task, where)}; median of {done}.\n\n{as_table(outcomes)}\n"
    publish(given, fragment, as_json(task, outcomes, where))


def main(words: Sequence[str] | None = None) -> int:
    """Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, lambda: work(given))


if __name__ == "__main__":
    sys.exit(main())
