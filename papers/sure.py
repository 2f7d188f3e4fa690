"""Significance tests of differences that are paired by sample, also for clustered samples and for pairs of samples."""

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

Samples: TypeAlias = Sequence[float]
"""One value for each sample."""

STUDENT = (
    *(12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13),
    *(2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04),
)
"""97.5 % quantiles of Student's distribution with 1 to 30 degrees of freedom: two-sided tests at 5 %."""
RULE = (
    "A comparison holds if the difference exceeds as many standard errors as the 97.5 % quantile of Student's "
    "distribution: 3.18 for 4 samples, 2.20 for 12, 2.13 for 16, 2.04 for 31 or more."
)
"""Description of the significance test in one sentence, for the pages."""


@dataclass(frozen=True)
class Estimate:
    """A mean over samples and its standard error, NaN for a single sample.

    Attributes:
        mean: the mean.
        error: its standard error.
        sure: critical value: the mean is significant if it exceeds this number of standard errors.
    """

    mean: float
    error: float
    sure: float

    @property
    def positive(self) -> bool:
        """Whether the mean is significantly above 0."""
        return self.mean > self.sure * self.error

    @property
    def negative(self) -> bool:
        """Whether the mean is significantly below 0."""
        return -self.mean > self.sure * self.error

    def __str__(self) -> str:
        return f"{self.mean:+.2g} ± {float(f'{self.error:.1g}'):g}"


def student(freedom: int) -> float:
    """97.5 % quantile of Student's distribution; for more than 30 degrees of freedom that of 30, for 0 infinity."""
    return STUDENT[min(freedom, len(STUDENT)) - 1] if freedom > 0 else math.inf


def estimate(values: Samples) -> Estimate:
    """The mean of independent values and its standard error, compared with Student's distribution."""
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(fmean(values), error, student(len(values) - 1))


def with_error(values: Samples) -> str:
    """The mean of independent values and its standard error with three decimals."""
    found = estimate(values)
    return f"{found.mean:.3f} ± {found.error:.3f}"


def over_pairs(rows: Samples) -> list[float]:
    """One value per sample for the mean over all pairs of samples: the pseudo-values of the jackknife.

    The values of the pairs are not independent, because each sample is in many pairs. Pseudo-values are treated as
    independent (Tukey, 1958): applied to them, `estimate` returns the mean over the pairs and its jackknife standard
    error, from leaving out one sample k with all its pairs at a time. With the mean m over all pairs, they are

        n m - (n - 1) m_(-k) = (2 (n - 1) r_k - n m) / (n - 2)

    Args:
        rows: r_k, for each of at least 3 samples the mean over its n - 1 pairs.
    """
    n, mean = len(rows), fmean(rows)
    return [(2 * (n - 1) * each - n * mean) / (n - 2) for each in rows]


def difference(one: Samples, other: Samples) -> Estimate:
    """The mean of one - other, paired by sample, and its standard error."""
    return estimate([a - b for a, b in zip(one, other, strict=True)])


def clustered(values: Samples, groups: Sequence[Hashable]) -> Estimate:
    """The mean of samples that are not independent within a group, such as drawings of one emoji in several styles.

    The deviations from the mean are summed within each of the G groups before they are squared, with the correction
    G / (G - 1); with one sample per group it is the usual formula. The mean is compared with Student's distribution
    of G - 1 degrees of freedom.

    Args:
        values: the samples.
        groups: the group of each one.
    """
    mean = fmean(values)
    sums: dict[Hashable, float] = {}
    for value, group in zip(values, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value - mean
    count = len(sums)
    if count < 2:
        return Estimate(mean, math.nan, math.inf)
    error = math.sqrt(count / (count - 1) * sum(each**2 for each in sums.values())) / len(values)
    return Estimate(mean, error, student(count - 1))


def clustered_difference(one: Samples, other: Samples, groups: Sequence[Hashable]) -> Estimate:
    """The mean of one - other, paired by sample, see `clustered`."""
    return clustered([a - b for a, b in zip(one, other, strict=True)], groups)


def over_members(values: Samples, pairs: Sequence[Collection[Hashable]]) -> Estimate:
    """The mean of samples of pairs, where samples whose pairs share a member are not independent.

    The variance is the sum over all couples of such samples of the product of their deviations (Fafchamps and Gubert,
    2007), with the correction G / (G - 1) for G members, but at least that of samples clustered by pair.

    Args:
        values: the samples.
        pairs: the two members of the pair of each one; their order is ignored.
    """
    mean = fmean(values)
    of_member: dict[Hashable, float] = {}
    of_pair: dict[frozenset[Hashable], float] = {}
    for value, pair in zip(values, pairs, strict=True):
        of_pair[frozenset(pair)] = of_pair.get(frozenset(pair), 0.0) + value - mean
        for member in pair:
            of_member[member] = of_member.get(member, 0.0) + value - mean
    count = len(of_member)
    if len(of_pair) < 2:
        return Estimate(mean, math.nan, math.inf)
    once = sum(each**2 for each in of_pair.values())
    total = sum(each**2 for each in of_member.values()) - once  # the couples of one pair share both members
    return Estimate(mean, math.sqrt(count / (count - 1) * max(total, once)) / len(values), student(count - 1))


def trend(times: Sequence[float], values: Sequence[Samples], groups: Sequence[Hashable] | None = None) -> Estimate:
    """Change of the values per unit of time: the least-squares slope for each sample, averaged over samples.

    Args:
        times: the times.
        values: for each time, one value per sample; the samples are the same at every time.
        groups: the group of each sample, see `clustered`; None for independent samples.
    """
    middle = fmean(times)
    spread = sum((time - middle) ** 2 for time in times)
    weights = [(time - middle) / spread for time in times]
    slopes = [sum(w * v for w, v in zip(weights, each, strict=True)) for each in zip(*values, strict=True)]
    return estimate(slopes) if groups is None else clustered(slopes, groups)
