"""Steps to the target: how many steps an optimizer needs for the loss at which a reference ends.

Two measures, as a ratio T/steps to the reference's T steps: above 1 is faster.

- `first_reached` reads it off a loss curve: the first step at which the smoothed loss is at or below the target. It
  suits optimizers without a horizon.
- `steps_to_target` runs anew at other horizons: the shortest whose *final* loss is at or below the target, as AlgoPerf
  measures. An optimizer that anneals over T gets down only near T, whatever it could do in fewer steps: this is the
  measure for schedules and for rules with a horizon.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from closedform._progress import Progress
from closedform.errors import OptionError
from closedform.evaluation._contenders import Optimizer
from closedform.evaluation._evaluate import EvaluationOptions, evaluate, evaluation_options
from closedform.evaluation._statistics import Curve, Summary, finite, with_nan
from closedform.tasks import Task

FASTER = (1.1, 1.3, 1.5, 2.0)
"""Horizons T/f that are tried while the target is reached."""
SLOWER = (1.1, 1.3, 1.5, 2.0)
"""Horizons T*f that are tried until it is."""
SMOOTHING = 5
"""Points of a loss curve that are averaged."""
_LEAST = 0.01
"""The smallest ratio that is counted."""


@dataclass(frozen=True)
class Attempt:
    """One horizon: its steps, and the final losses there."""

    steps: int
    final_loss: Summary


Attempter: TypeAlias = Callable[[int], Attempt]
"""Runs a horizon of that many steps."""


@dataclass(frozen=True)
class StepsToTarget:
    """How many steps it took.

    Attributes:
        target: The loss to get to.
        horizon: T, the steps that the reference took.
        attempts: The horizons that were run, in that order.
        steps: The shortest horizon that reached the target; None if none did.
        ratio: T/steps. Where no horizon reached it, the rule is T over the longest horizon tried, times target over the
            loss there: a bound that gets the smaller the farther it was off; 0.01 at least, also after divergence.
        bounded: True if the shortest horizon tried still reached it: the ratio is at least this.
    """

    target: float
    horizon: int
    attempts: tuple[Attempt, ...]
    steps: int | None
    ratio: float
    bounded: bool

    @property
    def reached(self) -> bool:
        """Whether the target was reached at any horizon."""
        return self.steps is not None


def first_reached(curve: Curve, target: float, smoothing: int = SMOOTHING) -> int | None:
    """The first step at which a loss curve, as the mean of its last ``smoothing`` points, is at or below ``target``.

    Args:
        curve: Mean loss of each bin of steps.
        target: The loss to get to; `smoothed_end` of the reference's curve.
        smoothing: Points that are averaged; fewer at the start, where there are no more.

    Returns:
        The last step of the first such point; None if there is none.

    Raises:
        OptionError: the target is not a finite number.
    """
    _check_target(target)
    for step, value in zip(curve.steps, _smoothed(curve, smoothing), strict=True):
        if value is not None and value <= target:
            return step
    return None


def smoothed_end(curve: Curve, smoothing: int = SMOOTHING) -> float | None:
    """Where a loss curve ends, smoothed as in `first_reached`; None after divergence."""
    return _smoothed(curve, smoothing)[-1]


def steps_to_target(
    entrant: Optimizer,
    task: Task,
    target: float,
    *,
    fractions: Sequence[float] = FASTER,
    slower: Sequence[float] = SLOWER,
    horizon: int | None = None,
    budget: int | None = None,
    seeds: int = 5,
    config: EvaluationOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> StepsToTarget:
    """The shortest horizon at which an optimizer's mean final loss is at or below ``target``.

    The reference's own horizon T is run first. If it reaches the target the shorter ones T/f follow until one does not;
    else the longer ones T*f until one does. So a horizon between two of those tried counts as the longer of them.

    Args:
        entrant: What to run: a rule, a learned optimizer, or a `Baseline` with one learning rate and schedule, which
            anneals over each horizon.
        task: The task.
        target: The reference's mean final loss after T steps, over the same seeds.
        fractions: The f of shorter horizons, increasing, above 1.
        slower: The f of longer horizons, likewise.
        horizon: T; the task's own if None.
        budget: The most steps that a run may have; None: any.
        seeds, config, progress, options: As in `evaluate`.
        out: Folder for finished runs.

    Raises:
        OptionError: the target is not finite, as that of a reference that diverged; a factor is not above 1; or a
            horizon is longer than the budget.
    """
    _check_target(target)
    for name, factors in (("fractions", fractions), ("slower", slower)):
        if any(not factor > 1 for factor in factors) or sorted(set(factors)) != list(factors):
            raise OptionError(f"{name} must be increasing factors above 1, such as 1.1, 1.5, not {factors!r}")
    whole = horizon or task.horizon
    longest = max([whole, *(round(whole * factor) for factor in slower)])
    if budget is not None and longest > budget:
        raise OptionError(
            f"a horizon of {longest} steps is longer than the budget of {budget}: give smaller factors in slower, "
            "a shorter horizon, or a larger budget"
        )

    def attempt(steps: int) -> Attempt:
        found = evaluate(
            {"entrant": entrant},
            [task],
            steps=steps,
            seeds=seeds,
            baselines=(),
            config=replace(evaluation_options(config, options), resume=True),
            out=out,
            progress=progress,
        )
        return Attempt(steps, found.entries[0].final_loss)

    return search_horizons(attempt, whole, target, fractions, slower)


def search_horizons(
    attempt: Attempter, horizon: int, target: float, fractions: Sequence[float], slower: Sequence[float]
) -> StepsToTarget:
    """`steps_to_target`, whatever runs the episodes: ``attempt(steps)`` gives the final losses at a horizon."""
    attempts = [attempt(horizon)]
    if _reaches(attempts[0], target):
        for factor in fractions:
            attempts.append(attempt(max(1, round(horizon / factor))))
            if not _reaches(attempts[-1], target):
                break
    else:
        for factor in slower:
            attempts.append(attempt(round(horizon * factor)))
            if _reaches(attempts[-1], target):
                break
    reached = [found.steps for found in attempts if _reaches(found, target)]
    shortest = min(reached, default=None)
    bounded = shortest is not None and len(reached) == len(attempts) > 1
    ratio = horizon / shortest if shortest else _short_of(attempts[-1], horizon, target)
    return StepsToTarget(target, horizon, tuple(attempts), shortest, ratio, bounded)


def _reaches(attempt: Attempt, target: float) -> bool:
    loss = attempt.final_loss
    return not loss.diverged and loss.mean is not None and loss.mean <= target


def _short_of(last: Attempt, horizon: int, target: float) -> float:
    loss = last.final_loss
    if loss.diverged or loss.mean is None or target <= 0:
        return _LEAST
    return max(_LEAST, horizon / last.steps * target / loss.mean)


def _smoothed(curve: Curve, smoothing: int) -> list[float | None]:
    (mean,) = with_nan([curve.mean])
    return [finite(float(mean[max(0, end - smoothing) : end].mean())) for end in range(1, len(mean) + 1)]


def _check_target(target: float) -> None:
    if not math.isfinite(target):
        raise OptionError(
            f"the target must be a finite loss, not {target!r}: a reference that diverged has none; tune it at smaller "
            "learning rates"
        )
