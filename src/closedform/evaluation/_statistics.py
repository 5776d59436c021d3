"""Means over seeds with bootstrap intervals, and paired differences.

Runs that diverged have no final loss: they are counted beside the mean, never left out of sight.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from closedform._document import Count, Many

RESAMPLES = 9999
CONFIDENCE = 0.95
MOST_SEEDS, MOST_POINTS = 10_000, 10_000
"""Values of a quantity, and points of a curve, that a results file may hold."""
_CURVE_RESAMPLES = 999  # intervals of curves are looked at, not compared


@dataclass(frozen=True)
class Summary:
    """One quantity over seeds.

    Attributes:
        values: One value a seed, in the order of seeds; None where the run diverged.
        mean: Mean of the finite values; None if there is none.
        low, high: Bootstrap interval of that mean; None with fewer than two finite values.
    """

    values: Annotated[tuple[float | None, ...], Many(MOST_SEEDS)]
    mean: float | None
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        known = [value for value in self.values if value is not None]
        if self.mean is not None and not _between(self.mean, known):
            raise ValueError(f"a mean of {self.mean:g} is not among the values that it is of")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval from {self.low:g} to {self.high:g} is upside down")

    @property
    def count(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def diverged(self) -> int:
        """Number of seeds without a finite value."""
        return sum(value is None for value in self.values)

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is better: by the number of seeds that diverged, then by the mean of the others."""
        return (self.diverged, math.inf if self.mean is None else self.mean)


@dataclass(frozen=True)
class Curve:
    """Loss against step, over seeds; every point is the mean over a bin of steps.

    Attributes:
        steps: Last step of each bin.
        mean: Mean over the seeds that were still finite; None where none was.
        low, high: Bootstrap interval of that mean.
    """

    steps: Annotated[tuple[Count, ...], Many(MOST_POINTS)]
    mean: Annotated[tuple[float | None, ...], Many(MOST_POINTS)]
    low: Annotated[tuple[float | None, ...], Many(MOST_POINTS)]
    high: Annotated[tuple[float | None, ...], Many(MOST_POINTS)]

    def __post_init__(self) -> None:
        if not len(self.steps) == len(self.mean) == len(self.low) == len(self.high):
            raise ValueError("a curve's steps, means and intervals differ in number")
        if any(after <= before for before, after in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("a curve's steps must increase")


def _between(mean: float, values: Sequence[float]) -> bool:
    """Whether it may be their mean, up to rounding."""
    slack = 1e-9 * max(map(abs, values), default=0.0)
    return bool(values) and min(values) - slack <= mean <= max(values) + slack


def finite(value: float | None) -> float | None:
    """``value``, or None if it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def with_nan(values: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """Rows of numbers as an array; NaN where there is none."""
    return np.array(values, dtype=np.float64)


def summarize(values: Iterable[float | None], *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Summary:
    """Mean and bootstrap interval of one value a seed; None, NaN and infinity count as diverged.

    The interval is the bias-corrected and accelerated one (Efron 1987) of `scipy.stats.bootstrap`, from a fixed seed,
    so that equal values give equal intervals.

    Args:
        values: One value a seed.
        confidence: Coverage of the interval, 0 to 1.
        resamples: Bootstrap resamples.
    """
    plain = without_interval(values)
    sample = np.array([value for value in plain.values if value is not None], dtype=np.float64)
    low, high = bootstrap_interval(sample, confidence, resamples)
    return replace(plain, low=low, high=high)


def without_interval(values: Iterable[float | None]) -> Summary:
    """Mean of one value a seed, as `summarize`, without the time that an interval takes."""
    kept = tuple(finite(value) for value in values)
    sample = [value for value in kept if value is not None]
    return Summary(kept, float(np.mean(sample)) if sample else None, None, None)


def paired_difference(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Summary:
    """Ours minus theirs, seed by seed (same start and same batches), with the interval of the mean difference.

    A seed in which either diverged has no difference and counts as diverged.
    """
    differences = (
        None if one is None or other is None else one - other for one, other in zip(ours, theirs, strict=True)
    )
    return summarize(differences, confidence=confidence, resamples=resamples)


def bootstrap_interval(
    sample: NDArray[np.float64], confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    """Bootstrap interval of the mean of a finite sample [n]; (None, None) if n < 2."""
    if len(sample) < 2:
        return None, None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    for method in ("BCa", "percentile"):  # BCa is undefined for some tiny samples
        low, high = _scipy_interval(sample, confidence, resamples, method)
        if math.isfinite(low) and math.isfinite(high):
            break
    return low, high


def summarize_curves(
    steps: Sequence[int], curves: Sequence[Sequence[float | None]], *, confidence: float = CONFIDENCE
) -> Curve:
    """Mean and percentile bootstrap interval at every point of a set of curves.

    Args:
        steps: The points' steps, [P].
        curves: One curve a seed, each [P]; None from where the run diverged.
        confidence: Coverage of the interval, 0 to 1.
    """
    values = with_nan(curves).reshape(len(curves), len(steps))
    draws = np.random.default_rng(0).integers(len(values), size=(_CURVE_RESAMPLES, len(values)))
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points at which all have diverged: their mean is NaN
        mean = np.nanmean(values, axis=0)
        low, high = np.nanquantile(np.nanmean(values[draws], axis=1), [tail, 1 - tail], axis=0)
    if len(values) < 2:
        low = high = np.full(len(steps), math.nan)
    return Curve(tuple(steps), *(tuple(map(finite, line.tolist())) for line in (mean, low, high)))


def _scipy_interval(sample: Any, confidence: float, resamples: int, method: str) -> tuple[float, float]:
    from scipy import stats

    bootstrap: Any = stats.bootstrap  # its stubs know neither a method held in a variable nor older releases
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = bootstrap(
            (sample,),
            np.mean,
            confidence_level=confidence,
            n_resamples=resamples,
            method=method,
            vectorized=True,
            random_state=np.random.default_rng(0),
        ).confidence_interval
    return float(interval.low), float(interval.high)
