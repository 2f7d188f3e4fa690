"""Significance of a difference over samples, paired by sample, with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

Samples: TypeAlias = Sequence[float]
"""One value for each sample."""

SURE = 2.0
"""Standard errors that a mean must exceed to be significant."""


@dataclass(frozen=True)
class Estimate:
    """A mean over samples and its standard error, NaN for a single sample."""

    mean: float
    error: float

    @property
    def positive(self) -> bool:
        """Whether the mean is significantly above 0."""
        return self.mean > SURE * self.error

    def __str__(self) -> str:
        return f"{self.mean:+.2g} ± {self.error:.1g}"


def estimate(values: Samples) -> Estimate:
    """The mean of the values and its standard error."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(fmean(values), error)


def difference(one: Samples, other: Samples) -> Estimate:
    """The mean of one - other, paired by sample, and its standard error."""
    return estimate([a - b for a, b in zip(one, other, strict=True)])


def trend(times: Sequence[float], values: Sequence[Samples]) -> Estimate:
    """Change of the values per unit of time: the least-squares slope for each sample, averaged over samples.

    Args:
        times: the times.
        values: for each time, one value per sample; the samples are the same at every time.
    """
    middle = fmean(times)
    spread = sum((time - middle) ** 2 for time in times)
    weights = [(time - middle) / spread for time in times]
    return estimate([sum(w * v for w, v in zip(weights, each, strict=True)) for each in zip(*values, strict=True)])
