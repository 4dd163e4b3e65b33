"""Paired bootstrap on differences of ratios of sums: is one model better than another on the same held-out items?

Conversations (or questions) are drawn with replacement, the same draw for both models, and the difference of their
metrics is taken each time (Efron and Tibshirani, An Introduction to the Bootstrap, chapters 13 and 16; Koehn 2004 for
paired use in language technology). The interval holds the middle share of these differences.

A metric is sum(numerator) / sum(denominator): bits per byte is bits over bytes, accuracy is score over one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

RESAMPLES = 2000
CONFIDENCE = 0.95

_DRAWN_AT_ONCE = 1 << 22
"""Items of one block of draws: bounds memory, changes no draw."""


class Better(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


class Verdict(StrEnum):
    """Of the first model against the second."""

    BETTER = "better"
    NOT_DISTINGUISHABLE = "not distinguishable"
    WORSE = "worse"


@dataclass(frozen=True)
class PairedItems:
    """[n] numerators and denominators of two models on the same items."""

    first_numerator: Float64
    first_denominator: Float64
    second_numerator: Float64
    second_denominator: Float64

    def __len__(self) -> int:
        return len(self.first_numerator)

    @property
    def difference(self) -> float:
        """First minus second on all items; NaN without items."""
        if not len(self):
            return math.nan
        return float(self.differences(np.arange(len(self))[np.newaxis])[0])

    def differences(self, items_RN: Int64) -> Float64:
        """[R] first minus second, over each row of item numbers."""
        first, second = (
            numerator[items_RN].sum(axis=1) / denominator[items_RN].sum(axis=1)
            for numerator, denominator in (
                (self.first_numerator, self.first_denominator),
                (self.second_numerator, self.second_denominator),
            )
        )
        difference: Float64 = first - second
        return difference


@dataclass(frozen=True)
class Interval:
    """A difference, first minus second, with its percentile interval."""

    difference: float
    low: float
    """NaN, as `high` is, where fewer than two items leave nothing to resample."""
    high: float
    items: int
    verdict: Verdict


@dataclass(frozen=True)
class Intervals:
    """By stratum, and of the unweighted mean of the strata's differences."""

    strata: dict[str, Interval]
    mean: Interval


def paired_intervals(
    strata: Mapping[str, PairedItems],
    better: Better,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Intervals:
    """Intervals of each stratum (skill, task) and of the mean over strata, items resampled within each stratum.

    A stratum's draws depend on the seed, its name and its size alone: another stratum changes nothing in it, and two
    comparisons on the same items see the same draws.
    """
    names = sorted(strata)
    draws = {name: _bootstrap(strata[name], name, resamples, seed) for name in names}
    intervals = {
        name: _interval(strata[name].difference, draws[name], len(strata[name]), better, confidence) for name in names
    }
    items = sum(len(strata[name]) for name in names)
    mean = _interval(_mean([intervals[name].difference for name in names]), _mean_of(draws), items, better, confidence)
    return Intervals(intervals, mean)


def drawn_items(count: int, resamples: int, seed: int, stratum: str) -> Iterator[Int64]:
    """Blocks [r, count] of item numbers, `resamples` rows in all."""
    generator = np.random.default_rng([seed, zlib.crc32(stratum.encode())])
    rows = max(1, _DRAWN_AT_ONCE // max(count, 1))
    for begin in range(0, resamples, rows):
        yield generator.integers(count, size=(min(rows, resamples - begin), count), dtype=np.int64)


def _bootstrap(items: PairedItems, stratum: str, resamples: int, seed: int) -> Float64:
    if len(items) < 2:  # one item resampled is always itself: an interval of no width would look certain
        return np.full(resamples, np.nan)
    return np.concatenate([items.differences(block) for block in drawn_items(len(items), resamples, seed, stratum)])


def _mean(differences: list[float]) -> float:
    return math.fsum(differences) / len(differences) if differences else math.nan


def _mean_of(draws: Mapping[str, Float64]) -> Float64:
    if not draws:
        return np.full(1, np.nan)
    mean: Float64 = np.mean(np.stack(list(draws.values())), axis=0)
    return mean


def _interval(difference: float, draws: Float64, items: int, better: Better, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(draws, [tail, 1 - tail]))
    return Interval(difference, low, high, items, _verdict(low, high, better))


def _verdict(low: float, high: float, better: Better) -> Verdict:
    if not (high < 0 or low > 0):  # NaN is in neither
        return Verdict.NOT_DISTINGUISHABLE
    return Verdict.BETTER if (high < 0) == (better is Better.LOWER) else Verdict.WORSE
