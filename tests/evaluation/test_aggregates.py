"""Statistics over tasks against closed forms and scipy; steps to the target on curves whose crossing is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from closedform import errors
from closedform.evaluation import (
    CAP,
    Attempt,
    Baseline,
    Curve,
    EvaluationOptions,
    Summary,
    aggregate,
    first_reached,
    geometric_mean,
    interquartile_mean,
    loss_ratios,
    of_tasks,
    performance_profile,
    smoothed_end,
    steps_to_target,
)
from closedform.evaluation._steps_to_target import search_horizons
from closedform.rules import load_rule

SERIAL = EvaluationOptions(workers=1, tail=3, resamples=99)


# ------------------------------------------------------------------------------------------------------------ means


@pytest.mark.parametrize("count", [1, 3, 4, 10, 17])
def test_means_are_scipys(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=(5, count))
    np.testing.assert_allclose(geometric_mean(values), stats.gmean(values, axis=-1))
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=-1))


def test_interquartile_mean_of_known_numbers() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_ratios_are_of_means_over_seeds_and_bounded() -> None:
    found = loss_ratios([[1.0, 3.0], [1.0, None], [1e9, 1e9], [1e-9, 1e-9]], [[4.0, 4.0], [2.0, 2.0], [1, 1], [1, 1]])
    np.testing.assert_allclose(found, [0.5, (1 + 2 * CAP) / 2 / 2, CAP, 1 / CAP])


def test_geometric_mean_of_constant_ratios_has_no_spread_over_either() -> None:
    found = aggregate([[0.5, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 4.0]])
    for interval in (found.over_seeds, found.over_tasks):
        assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_intervals_over_seeds_and_over_tasks_tell_the_two_apart() -> None:
    """Ratios 1/4 and 4 on two tasks, all seeds alike: seeds say 1 exactly, tasks say anything from 1/4 to 4."""
    found = aggregate([[1.0] * 3, [4.0] * 3], [[4.0] * 3, [1.0] * 3])
    assert (found.value, found.over_seeds.low, found.over_seeds.high) == pytest.approx((1, 1, 1))
    assert (found.over_tasks.low, found.over_tasks.high) == pytest.approx((0.25, 4))


def test_interval_over_seeds_is_near_the_deltamethods() -> None:
    """One task, log-normal losses against a reference that is always 1: the ratio is the mean over seeds."""
    losses = np.random.default_rng(0).lognormal(0, 0.3, 400)
    found = aggregate([losses.tolist()], [[1.0] * 400], resamples=4000).over_seeds
    half = 1.96 * losses.std(ddof=1) / math.sqrt(400)
    assert found.value == pytest.approx(losses.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_pairs_stay_together_when_seeds_are_drawn() -> None:
    shared = np.random.default_rng(0).lognormal(0, 1, (3, 6))
    found = aggregate((0.9 * shared).tolist(), shared.tolist()).over_seeds
    assert (found.low, found.high) == pytest.approx((0.9, 0.9))


def test_one_number_a_task() -> None:
    found = of_tasks([1.0, 4.0])
    assert found.value == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((1.0, 4.0))


@pytest.mark.parametrize("theirs", [[[1.0], [None]], [[1.0], [0.0]], [[1.0], [-2.0]]])
def test_a_reference_that_diverged_is_refused(theirs: Any) -> None:
    with pytest.raises(errors.DivergenceError, match="reference diverged, or its loss is not above 0, on task 2 of 2"):
        aggregate([[1.0], [1.0]], theirs)


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([[1.0]], [[1.0], [1.0]]), ([[1.0]], [[1.0, 2.0]])])
def test_tasks_and_seeds_must_match(ours: Any, theirs: Any) -> None:
    with pytest.raises(errors.OptionError, match="same tasks and the same number of seeds"):
        aggregate(ours, theirs)


def test_performance_profile_of_known_losses() -> None:
    losses = {"a": [1.0, 2.0, 9.0, None], "b": [2.0, 2.0, 3.0, None], "c": [None, 8.0, 3.3, 1.0]}
    found = performance_profile(losses, (1.0, 1.5, 2.0, 4.0))
    assert found == {"a": (0.5, 0.5, 0.5, 0.75), "b": (0.5, 0.5, 0.75, 0.75), "c": (0.25, 0.5, 0.5, 0.75)}


def test_where_all_diverged_nobody_is_within_any_factor() -> None:
    assert performance_profile({"a": [None], "b": [None]}, (1.0, 100.0)) == {"a": (0.0, 0.0), "b": (0.0, 0.0)}


# -------------------------------------------------------------------------------------------------- steps to the target


def curve(values: list[float | None]) -> Curve:
    steps = tuple(range(10, 10 * len(values) + 1, 10))
    return Curve(steps, tuple(values), tuple(values), tuple(values))


def test_a_curve_reaches_the_target_where_its_smoothed_loss_does() -> None:
    falling = curve([1 / k for k in range(1, 101)])
    for target, smoothing, expected in ((0.1, 1, 100), (0.0101, 1, 1000), (0.001, 1, None)):
        assert first_reached(falling, target, smoothing) == expected
    mean_of_three = [sum(1 / j for j in range(k - 2, k + 1)) / 3 for k in range(3, 101)]
    expected = 10 * (3 + next(i for i, value in enumerate(mean_of_three) if value <= 0.1))
    assert first_reached(falling, 0.1, 3) == expected
    assert smoothed_end(falling, 3) == pytest.approx(mean_of_three[-1])
    assert first_reached(falling, smoothed_end(falling) or 0.0) == 1000


def test_one_lucky_point_does_not_count_and_divergence_never_does() -> None:
    noisy = curve([1.0] * 5 + [0.0] + [1.0] * 5)
    assert first_reached(noisy, 0.5, 1) == 60
    assert first_reached(noisy, 0.5, 5) is None
    gone = curve([1.0, 0.5, None, None])
    assert first_reached(gone, 0.1) is None
    assert smoothed_end(gone) is None


def by_law(law: Any) -> Any:
    return lambda steps: Attempt(steps, Summary((law(steps),), law(steps), None, None))


@pytest.mark.parametrize(
    ("constant", "steps", "ratio", "bounded"),
    [
        (1.0, 1000, 1.0, False),  # as good as the reference: T, and not T/1.1
        (0.8, 909, 1000 / 909, False),  # needs 800 steps: T/1.1 does, T/1.3 does not
        (0.6, 667, 1000 / 667, False),  # needs 600
        (0.1, 500, 2.0, True),  # needs 100: T/2, the shortest tried
        (1.2, 1300, 1000 / 1300, False),  # needs 1200
        (4.0, None, 0.5 * 0.5, False),  # needs 4000; after 2000 it is at twice the target
    ],
)
def test_the_shortest_horizon_that_ends_at_the_target(
    constant: float, steps: int | None, ratio: float, bounded: bool
) -> None:
    """Final loss C/T against a reference's 1/1000: it takes 1000 C steps."""
    found = search_horizons(by_law(lambda n: constant / n), 1000, 1e-3, (1.1, 1.3, 1.5, 2.0), (1.1, 1.3, 1.5, 2.0))
    assert (found.steps, found.bounded, found.reached) == (steps, bounded, steps is not None)
    assert found.ratio == pytest.approx(ratio)
    assert found.attempts[0].steps == 1000


def test_a_diverged_seed_never_reaches_the_target() -> None:
    def attempt(steps: int) -> Attempt:
        return Attempt(steps, Summary((0.0, None), 0.0, None, None))

    found = search_horizons(attempt, 100, 1.0, (2.0,), (2.0,))
    assert (found.steps, found.ratio) == (None, 0.01)
    assert len(found.attempts) == 2


def test_horizons_are_run_and_kept(noisy_bowl: Any, tmp_path: Path) -> None:
    """SGD on a bowl without noise: |w|^2 falls by 0.9^2 a step, so the target's horizon is known."""
    noisy_bowl.noise = 0.0
    rule = dataclasses.replace(load_rule("sgd"), lr=0.1)
    options: dict[str, Any] = {"horizon": 60, "seeds": 2, "options": SERIAL, "out": tmp_path}
    after_60 = steps_to_target(rule, noisy_bowl, 0.0, fractions=(), slower=(), **options).attempts[0].final_loss.mean
    assert after_60 is not None
    target = after_60 * 0.81**-17  # what it has after 43 steps
    found = steps_to_target(rule, noisy_bowl, target * 1.0001, fractions=(1.2, 1.395, 1.5, 2), **options)
    assert [attempt.steps for attempt in found.attempts] == [60, 50, 43, 40]
    assert found.steps == 43
    before = len(noisy_bowl.seen)
    assert steps_to_target(rule, noisy_bowl, target * 1.0001, fractions=(1.2, 1.395, 1.5, 2), **options) == found
    assert len(noisy_bowl.seen) == before


def test_a_schedule_anneals_over_each_horizon(noisy_bowl: Any) -> None:
    annealed = Baseline(load_rule("sgd"), lrs=(0.5,), schedules=("linear",))
    found = steps_to_target(annealed, noisy_bowl, 0.0, horizon=40, slower=(2.0,), seeds=2, options=SERIAL)
    losses = [attempt.final_loss.mean for attempt in found.attempts]
    assert [attempt.steps for attempt in found.attempts] == [40, 80]
    assert losses[0] != losses[1]
    assert not found.reached


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target": math.nan}, "the target must be a finite loss, not nan: a reference that diverged has none"),
        ({"target": math.inf}, "a reference that diverged"),
        ({"fractions": (0.5,)}, "fractions must be increasing factors above 1"),
        ({"slower": (2.0, 1.5)}, "slower must be increasing factors above 1"),
        ({"budget": 15}, "a horizon of 24 steps is longer than the budget of 15"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], text: str, bowl: Any) -> None:
    target = change.pop("target", 1.0)
    with pytest.raises(errors.OptionError, match=text) as caught:
        steps_to_target(load_rule("sgd"), bowl, target, seeds=1, options=SERIAL, **change)
    assert "\n" not in str(caught.value)
    if "target" in str(caught.value):
        with pytest.raises(errors.OptionError, match="target must be a finite"):
            first_reached(curve([1.0]), target)
