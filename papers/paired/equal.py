"""Error to the true picture at equal adherence."""

from dataclasses import asdict, dataclass
from typing import Any

from papers.paired.results import ADHERENCE, ADHERENCES, ERROR, Results

#: Standard errors that a difference must exceed to be more than chance.
SURE = 2.0


@dataclass(frozen=True)
class Match:
    """A setting of diffusers beside the best of ours that follows the prompts at least as well.

    Attributes:
        theirs: the setting of diffusers.
        adherence: the metric by which ours follows at least as well.
        ours: ours with the smallest error among those that adhere at least as well; None where none does.
        difference: mean of our error less theirs over the edits; below 0 ours is nearer to the true pictures.
        deviation: standard error of the difference.
        surplus: mean of our adherence less theirs; at least 0.
        surplus_deviation: its standard error.
    """

    theirs: str
    adherence: str
    ours: str | None
    difference: float = float("nan")
    deviation: float = float("nan")
    surplus: float = float("nan")
    surplus_deviation: float = float("nan")

    @property
    def beaten(self) -> bool:
        """Whether ours is nearer, and not by chance."""
        return self.difference < -SURE * self.deviation

    def as_json(self) -> dict[str, Any]:
        """For numbers.json."""
        return asdict(self) | {"beaten": self.beaten}


def matches(results: Results) -> list[Match]:
    """One for every setting of diffusers and measure of adherence."""
    return [_match(results, name, adherence) for name in results.theirs for adherence in ADHERENCES]


def _match(results: Results, theirs: str, adherence: str) -> Match:
    wanted = results.mean(theirs, adherence)
    enough = [name for name in results.ours if results.mean(name, adherence) >= wanted]
    if not enough:
        return Match(theirs, adherence, None)
    ours = min(enough, key=lambda name: results.mean(name, ERROR))
    error, surplus = (results.difference(ours, theirs, name) for name in (ERROR, adherence))
    return Match(theirs, adherence, ours, *error, *surplus)


def on_front(results: Results) -> list[str]:
    """The settings that no other beats in both error and adherence."""
    points = {name: (results.mean(name, ERROR), -results.mean(name, ADHERENCE)) for name in results.methods}
    return [
        name
        for name, (error, against) in points.items()
        if not any(e <= error and a <= against and (e, a) != (error, against) for e, a in points.values())
    ]
