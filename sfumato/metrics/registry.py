"""The metrics by name. A metric is one function in one file, with the decorator `metric`, in `sfumato.metrics`:

    from sfumato.metrics import EditBatch, metric

    @metric("brightness", help="change of the mean pixel value", better="lower")
    def brightness(batch: EditBatch) -> Tensor:
        return (batch.edit - batch.source).mean((1, 2, 3)).abs()

Another package names its module in the entry point group `sfumato.metrics`; see docs/extending.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from sfumato.errors import BadInput
from sfumato.metrics.edit_batch import NEEDS, NETWORKS, EditBatch
from sfumato.plugins import Registry

Compute: TypeAlias = Callable[[EditBatch], Tensor]
BETTER = ("higher", "lower")


@dataclass(frozen=True)
class Quantity:
    """A column of numbers in a table.

    Attributes:
        name: name in files and tables.
        help: one-line description.
        better: "higher" or "lower".
        unit: "dB", "s", ...; empty for a dimensionless number.
    """

    name: str
    help: str
    better: str
    unit: str = ""

    @property
    def sign(self) -> int:
        """+1 if higher values are better, -1 if lower values are better."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True, kw_only=True)
class Metric(Quantity):
    """A metric of an edit.

    Attributes:
        needs: the inputs and networks of `NEEDS` that it requires.
        compute: the metric of each edit of a batch, [b]; NaN if it is undefined.
    """

    needs: tuple[str, ...] = ()
    compute: Compute


def _last_need(item: tuple[str, Metric]) -> int:
    return max((NEEDS.index(need) for need in item[1].needs), default=-1)


METRICS: Registry[Metric] = Registry("metric", "sfumato.metrics", "sfumato.metrics", order=_last_need)
"""All metrics by name, in the order of tables: metrics with fewer requirements first."""


def metric(
    name: str, *, help: str, better: str, unit: str = "", needs: Sequence[str] = ()
) -> Callable[[Compute], Compute]:
    """Register the decorated function as the `compute` of a metric; the arguments are those of `Metric`.

    Raises:
        BadInput: another metric has the name, or `better` or one of the needs is unknown.
    """
    if better not in BETTER:
        raise BadInput(f"better of the metric {name!r} must be one of {', '.join(BETTER)}, not {better!r}.")
    if unknown := [need for need in needs if need not in NEEDS]:
        raise BadInput(f"the metric {name!r} needs {unknown[0]!r}, which is none of {', '.join(NEEDS)}.")

    def register(compute: Compute) -> Compute:
        METRICS.register(name, Metric(name, help, better, unit, needs=tuple(needs), compute=compute))
        return compute

    return register


def measurable(inputs: Iterable[str]) -> list[str]:
    """Names of the metrics that can be computed with all networks and the given subset of `INPUTS`."""
    known = {*NETWORKS, *inputs}
    return [name for name, each in METRICS.items() if known.issuperset(each.needs)]


def measure(metrics: Mapping[str, Metric], batch: EditBatch) -> dict[str, Tensor]:
    """Compute the metrics whose requirements the batch has: float64 [b] each, on the CPU, by name.

    Raises:
        BadInput: a metric does not return one number for each edit.
    """
    scores = {}
    for name, each in metrics.items():
        if batch.known.keys() >= set(each.needs):
            values = each.compute(batch)
            if values.shape != (len(batch.edit),):
                raise BadInput(f"the metric {name!r} gave {list(values.shape)} numbers for {len(batch.edit)} edits.")
            scores[name] = values.cpu().double()
    return scores
