from __future__ import annotations

import math

import numpy as np
import pytest

from closedform.evaluation import paired_difference, summarize
from closedform.evaluation._statistics import bootstrap_interval, summarize_curves


def test_mean_is_numpys_and_divergence_is_counted() -> None:
    found = summarize([1.0, 2.0, math.nan, 4.0, math.inf, None])
    assert found.values == (1.0, 2.0, None, 4.0, None, None)
    assert found.mean == pytest.approx(np.mean([1.0, 2.0, 4.0]))
    assert (found.count, found.diverged) == (6, 3)


def test_interval_is_close_to_the_normal_one_for_a_large_sample() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    low, high = bootstrap_interval(sample)
    half = 1.96 * sample.std(ddof=1) / math.sqrt(len(sample))
    assert low == pytest.approx(sample.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(sample.mean() + half, abs=0.1 * half)


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(0.0, 1.0, 20), resamples=499)
        assert low is not None
        assert high is not None
        covered += low <= 0.0 <= high
    assert 0.87 <= covered / 200 <= 0.99


@pytest.mark.parametrize(("values", "bounds"), [([], (None, None)), ([1.0], (None, None)), ([2.0] * 4, (2.0, 2.0))])
def test_intervals_of_samples_without_spread(values: list[float], bounds: tuple[float | None, float | None]) -> None:
    found = summarize(values)
    assert (found.low, found.high) == bounds


def test_equal_samples_have_equal_intervals() -> None:
    values = [0.3, 0.1, 0.9, 0.4]
    assert summarize(values) == summarize(values)


def test_pairing_removes_what_seeds_share() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0.0, 10.0, 12)
    ours = shared + 1.0 + rng.normal(0.0, 0.1, 12)
    found = paired_difference(ours.tolist(), shared.tolist())
    assert found.mean == pytest.approx(np.mean(ours - shared))
    assert found.low is not None
    assert found.high is not None
    assert 0.8 < found.low < found.high < 1.2


def test_a_pair_with_a_diverged_member_has_no_difference() -> None:
    assert paired_difference([1.0, None, 3.0], [0.5, 1.0, None]).values == (0.5, None, None)


def test_rank_puts_divergence_behind_any_finite_mean() -> None:
    safe, risky = summarize([5.0, 5.0]), summarize([0.1, None])
    assert safe.rank < risky.rank


def test_curves_have_the_mean_at_every_point_and_survive_divergence() -> None:
    found = summarize_curves((10, 20, 30), [(3.0, 2.0, 1.0), (5.0, None, None), (4.0, 4.0, None)])
    assert found.mean == (4.0, 3.0, 1.0)
    assert found.low[0] is not None
    assert found.high[0] is not None
    assert 3.0 <= found.low[0] < 4.0 < found.high[0] <= 5.0
    assert summarize_curves((1,), [(2.0,)]).low == (None,)
