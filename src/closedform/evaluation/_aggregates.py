"""Several tasks in a number: ratios of losses, their geometric mean and interquartile mean, and performance profiles.

Losses of different tasks have different units, so what is averaged is each task's **ratio** to a reference: the mean
loss over seeds, divided by the reference's. A run that diverged counts as `CAP` times the reference's mean loss, and
no ratio counts as more than `CAP` or less than 1/CAP, since one explosion would otherwise be all that a mean shows.

References:
    R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021 (IQM,
        stratified bootstrap).
    E. D. Dolan, J. J. More, "Benchmarking optimization software with performance profiles", 2002.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from closedform.errors import DivergenceError, OptionError
from closedform.evaluation._statistics import CONFIDENCE, with_nan

CAP = 100.0
"""The largest ratio that is counted."""
RESAMPLES = 2000
Losses = Sequence[Sequence[float | None]]
"""By task, by seed; None where a run diverged."""
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Reduces the last axis, that of the tasks."""


@dataclass(frozen=True)
class Interval:
    """A number with its bootstrap interval; ``low`` and ``high`` are ``value`` where there is nothing to resample."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Aggregate:
    """A statistic over tasks.

    Attributes:
        over_seeds: Its interval when seeds are drawn anew within each task: what other seeds would give on these tasks.
        over_tasks: Its interval when the tasks are drawn anew: what tasks like these would give.
    """

    over_seeds: Interval
    over_tasks: Interval

    @property
    def value(self) -> float:
        """The statistic itself."""
        return self.over_seeds.value


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half along the last axis: a quarter of the values, rounded down, is left out at each end."""
    cut = values.shape[-1] // 4
    middle = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    return np.asarray(middle.mean(axis=-1))


def geometric_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exp of the mean logarithm along the last axis; all values above 0."""
    return np.asarray(np.exp(np.log(values).mean(axis=-1)))


def loss_ratios(ours: Losses, theirs: Losses) -> NDArray[np.float64]:
    """Each task's mean loss over that of the reference, [tasks], between 1/CAP and CAP.

    Raises:
        DivergenceError: a run of the reference diverged, or its mean loss is not above 0.
        OptionError: tasks or seeds differ in number.
    """
    return _ratios(*_arrays(ours, theirs))


def aggregate(
    ours: Losses,
    theirs: Losses,
    statistic: Statistic = geometric_mean,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Aggregate:
    """A statistic of `loss_ratios` over tasks, with percentile bootstrap intervals from a fixed seed.

    Args:
        ours, theirs: Losses of an optimizer and of the reference; at one seed the two are a pair and stay together.
        statistic: `geometric_mean` or `interquartile_mean`.
        confidence: Coverage of the intervals, 0 to 1.
        resamples: Bootstrap resamples.

    Raises:
        DivergenceError, OptionError: as `loss_ratios`.
    """
    mine, other = _arrays(ours, theirs)
    tasks, seeds = mine.shape
    rng = np.random.default_rng(0)
    ratios = _ratios(mine, other)
    value = float(statistic(ratios))
    drawn = rng.integers(seeds, size=(resamples, tasks, seeds))
    rows = np.arange(tasks)[None, :, None]
    by_seed = statistic(_ratios(mine[rows, drawn], other[rows, drawn]))
    by_task = statistic(ratios[rng.integers(tasks, size=(resamples, tasks))])
    return Aggregate(_interval(value, by_seed, confidence), _interval(value, by_task, confidence))


def of_tasks(values: Sequence[float], *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Interval:
    """Geometric mean of one number a task, with the interval when the tasks are drawn anew."""
    array = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(array), size=(resamples, len(array)))
    return _interval(float(geometric_mean(array)), geometric_mean(array[drawn]), confidence)


def performance_profile(
    losses: Mapping[str, Sequence[float | None]], taus: Sequence[float]
) -> dict[str, tuple[float, ...]]:
    """For every optimizer the share of tasks on which its loss is within a factor tau of the best there.

    Args:
        losses: Optimizer -> one mean loss a task, above 0; None where it diverged: within no factor.
        taus: Factors, at least 1.

    Returns:
        Optimizer -> a share for each of ``taus``.
    """
    found = with_nan(list(losses.values()))
    table = np.where(np.isnan(found), math.inf, found)
    with np.errstate(invalid="ignore"):  # all diverged: inf/inf, within no factor
        factors = table / table.min(axis=0)
    shares = (factors[:, :, None] <= np.asarray(taus)).mean(axis=1)
    return {name: tuple(row) for name, row in zip(losses, shares.tolist(), strict=True)}


def _arrays(ours: Losses, theirs: Losses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sizes = {len(row) for row in (*ours, *theirs)}
    if len(ours) != len(theirs) or not ours or len(sizes) != 1 or 0 in sizes:
        raise OptionError("ratios need the same tasks and the same number of seeds of both optimizers, at least one")
    mine, reference = with_nan(ours), with_nan(theirs)
    bad = [task for task, row in enumerate(reference) if not np.isfinite(row).all() or row.mean() <= 0]
    if bad:
        raise DivergenceError(
            f"the reference diverged, or its loss is not above 0, on task {bad[0] + 1} of {len(reference)}: there is "
            "nothing to take a ratio to; tune it at smaller learning rates, or leave that task out"
        )
    return np.where(np.isnan(mine), CAP * reference.mean(axis=1, keepdims=True), mine), reference


def _ratios(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., tasks, seeds] twice -> [..., tasks]."""
    return np.asarray(np.clip(ours.mean(axis=-1) / theirs.mean(axis=-1), 1 / CAP, CAP))


def _interval(value: float, sample: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(sample, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
