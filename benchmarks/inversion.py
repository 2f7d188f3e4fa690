"""Cost of inverting and editing one real image: sfumato and its alternatives in one run, with the same weights.

    python benchmarks/inversion.py --model emoji --out out/benchmark-inversion.json

The contenders alternate (A B C A B C ...), so that other load on the machine affects all of them equally; medians and
ratios of medians are printed. Network evaluations are counted by a hook on the U-Net: calls, and total number of rows.
The memory of each contender is measured in a separate process. `--quick` is a smoke test on a tiny random model.
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
    """The cost of one contender, and the error of its reconstruction of x_0."""

    error_max: float | None = None
    error_rms: float | None = None
    memory: Peak = field(default_factory=Peak)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    flags = parser(__doc__)
    flags.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="only these contenders")
    flags.add_argument(
        "--no-memory", action="store_true", help="do not measure memory, which starts a process for each"
    )
    return flags.parse_args(words)


def run(task: Task, names: Sequence[str], repeats: int) -> tuple[dict[str, Inverted], int]:
    """Measure all contenders alternately, after a warm-up round that counts evaluations and reconstructs.

    Returns:
        The outcome of every contender, and the number of complete rounds.
    """
    outcomes = {name: Inverted() for name in names}
    ready = warm_up({name: partial(CONTENDERS[name], task) for name in names}, outcomes, _first)
    return outcomes, rounds(ready, outcomes, repeats, task.device)


def _first(contender: Contender, outcome: Inverted) -> None:
    count(contender, outcome)
    error = contender.reconstruction_error()
    if error is not None:
        outcome.error_max, outcome.error_rms = float(error.abs().max()), float(error.square().mean().sqrt())


def as_table(outcomes: dict[str, Inverted]) -> str:
    """Markdown table: median seconds, ratio to sfumato, evaluations, error, peak memory (increase in brackets)."""
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
    """All results as JSON values, including the single measurements."""
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
    """Measure, print and write the results."""
    with opened(given) as (task, _):
        where = environment(task.device)
        outcomes, done = run(task, given.only or list(CONTENDERS), given.repeats)
        for name, outcome in outcomes.items():
            if not (given.no_memory or given.quick or outcome.problem):
                outcome.memory = memory_of(name, task, where["threads"])
    fragment = f"{headline(task, where)}; median of {done}.\n\n{as_table(outcomes)}\n"
    publish(given, fragment, as_json(task, outcomes, where))


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns an exit code."""
    given = arguments(words)
    return measured(__file__, given, work)


if __name__ == "__main__":
    sys.exit(main())
