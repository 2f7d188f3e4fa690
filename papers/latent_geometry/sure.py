"""What a difference over samples is worth: paired by sample, with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

Samples: TypeAlias = Sequence[float]
"""One number for each sample."""

SURE = 2.0
"""Standard errors that a mean must exceed to be more than chance."""


@dataclass(frozen=True)
class Estimate:
    """A mean over samples and its standard error; the error of one sample is not known."""

    mean: float
    error: float

    @property
    def positive(self) -> bool:
        """Whether it is above 0, and not by chance."""
        return self.mean > SURE * self.error

    def __str__(self) -> str:
        return f"{self.mean:+.2g} ± {self.error:.1g}"


def estimate(values: Samples) -> Estimate:
    """The mean."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(fmean(values), error)


def difference(one: Samples, other: Samples) -> Estimate:
    """one - other, sample by sample."""
    return estimate([a - b for a, b in zip(one, other, strict=True)])


def trend(times: Sequence[float], values: Sequence[Samples]) -> Estimate:
    """By how much the values grow per unit of time: the least-squares slope of each sample's values, one for each time.

    Of samples that are the same ones at every time.
    """
    middle = fmean(times)
    spread = sum((time - middle) ** 2 for time in times)
    weights = [(time - middle) / spread for time in times]
    return estimate([sum(w * v for w, v in zip(weights, each, strict=True)) for each in zip(*values, strict=True)])
