"""Error to the ground truth at equal adherence to the prompt."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from papers.paired.results import ADHERENCE, ADHERENCES, ERROR, Results
from papers.sure import Estimate

#: Methods that optimise the similarities of the evaluator itself: their adherence is not compared with that of others.
SELF_SCORED = ("diffuseit",)
UNKNOWN = Estimate(math.nan, math.nan, math.inf)


@dataclass(frozen=True)
class Match:
    """A setting of diffusers and the best setting of sfumato with at least the same adherence.

    Attributes:
        theirs: the setting of diffusers.
        adherence: the metric of adherence.
        ours: the setting with the smallest error among those with at least the same adherence, without those of
            `SELF_SCORED` methods; None if there is none.
        difference: over the edits, the error of `ours` minus that of `theirs`; negative if `ours` is closer to the
            ground truth.
        surplus: over the edits, the adherence of `ours` minus that of `theirs`; its mean is at least 0.
    """

    theirs: str
    adherence: str
    ours: str | None
    difference: Estimate = UNKNOWN
    surplus: Estimate = UNKNOWN

    @property
    def beaten(self) -> bool:
        """Whether `ours` is significantly closer to the ground truth."""
        return self.difference.negative

    def as_json(self) -> dict[str, Any]:
        """The match as JSON values, for numbers.json."""
        return asdict(self) | {"beaten": self.beaten}


def matches(results: Results) -> list[Match]:
    """One match for every setting of diffusers and metric of adherence."""
    return [_match(results, name, adherence) for name in results.theirs for adherence in ADHERENCES]


def _match(results: Results, theirs: str, adherence: str) -> Match:
    wanted = results.mean(theirs, adherence)
    compared = [name for name in results.ours if results.methods[name] not in SELF_SCORED]
    enough = [name for name in compared if results.mean(name, adherence) >= wanted]
    if not enough:
        return Match(theirs, adherence, None)
    ours = min(enough, key=lambda name: results.mean(name, ERROR))
    error, surplus = (results.difference(ours, theirs, name) for name in (ERROR, adherence))
    return Match(theirs, adherence, ours, error, surplus)


def on_front(results: Results) -> list[str]:
    """The settings for which no other setting is better in both error and adherence (the Pareto front).

    Settings of `SELF_SCORED` methods are not considered.
    """
    compared = [name for name, method in results.methods.items() if method not in SELF_SCORED]
    points = {name: (results.mean(name, ERROR), -results.mean(name, ADHERENCE)) for name in compared}
    return [
        name
        for name, (error, against) in points.items()
        if not any(e <= error and a <= against and (e, a) != (error, against) for e, a in points.values())
    ]
