"""Fixed points of hard cases: kinks, growing modes, shared numbers, small gradients, networks."""

import copy
import math

import pytest
import torch

import closedform as cf
from closedform.analysis import portrait
from closedform.analysis.portrait._held import Held
from closedform.analysis.portrait._settled import fixed_points, settled
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer
from closedform.rules import Rule


def network(name: str) -> LearnedOptimizer:
    return copy.deepcopy(cf.learned_optimizers.get(name, pretrained=True)).double()


@pytest.mark.parametrize("name", ["rp", "dm", "rp-s", "rp-si"])
def test_a_networks_jacobian_equals_differences(name: str) -> None:
    held = Held(network(name), torch.tensor([0.3, 1.0, -1.0], dtype=torch.float64))
    up, down = held._sides(held.start)
    assert held.jacobian(held.start) == pytest.approx((up + down) / 2, abs=1e-5)


@pytest.mark.parametrize("name", ["dm", "rp-s", "rp-si"])
def test_networks_come_to_rest_where_a_long_run_does(name: str) -> None:
    held = Held(network(name), torch.tensor([0.3, 1.0], dtype=torch.float64))
    found, rest = fixed_points(held)
    assert bool(rest.all())
    state = held.start
    for _ in range(4000):
        state = held.next(state)
    assert held.update(found, held.gradients) == pytest.approx(held.update(state, held.gradients), rel=2e-2)
    assert held.next(found) == pytest.approx(found, rel=1e-6, abs=1e-9)


def test_a_maximum_never_fades() -> None:
    rest = portrait("amsgrad", lags=4).settled
    assert rest is not None
    assert [mode.steps for mode in rest.time_scales] == pytest.approx(
        [math.inf, -1 / math.log(0.999), -1 / math.log(0.9)], rel=1e-6
    )


def test_a_mode_that_grows_is_said_to() -> None:
    found = portrait(Rule.parse("grows", "-m", state={"m": "1.05*m + g"}), lags=4)
    assert found.settled is not None
    assert not found.settled.stable
    assert found.settled.time_scales[0].steps == pytest.approx(-1 / math.log(1.05), rel=1e-6)
    assert "its memory grows by e in 20.5 steps" in found.sentences()
    assert any("a small push grows" in note for note in found.notes)


def test_an_alternating_fixed_point_is_not_stable() -> None:
    rest = portrait(Rule.parse("cycle", "-m", state={"m": "g - 3*tanh(m)"}), lags=4).settled
    assert rest is not None
    assert not rest.stable
    assert rest.time_scales[0].period == pytest.approx(2)


def test_numbers_that_all_coordinates_share_come_to_rest_too() -> None:
    rule = Rule.parse("corrected", "-m/(1 - q)", state={"m": "0.9*m + 0.1*g", "q": "0.999*q"}, init={"q": "1"})
    rest = portrait(rule, lags=4).settled
    assert rest is not None
    assert rest.updates == pytest.approx(rest.gradients, rel=1e-9)
    nadam = portrait("nadam", lags=4).settled
    assert nadam is not None
    assert nadam.updates == pytest.approx([0.002] * 9, rel=1e-5)  # its learning rate: products of decays are over


@pytest.mark.parametrize("unit", [1e-4, 1e-7])
def test_small_gradients_have_the_same_memories(unit: float) -> None:
    found = settled(SymbolicOptimizer(cf.load_rule("adopt")), unit)
    assert found.at_rest
    exact = [-1 / math.log(0.9999), -1 / math.log(0.9)]
    assert [mode.steps for mode in found.time_scales] == pytest.approx(exact, rel=1e-6)


def test_three_averages_in_a_row_keep_their_time() -> None:
    rule = Rule.parse("chain", "-c", state={"a": "0.9*a + 0.1*g", "b": "0.9*b + 0.1*a", "c": "0.9*c + 0.1*b"})
    rest = portrait(rule, lags=4).settled
    assert rest is not None
    assert [mode.steps for mode in rest.time_scales] == pytest.approx([-1 / math.log(0.9)] * 3, rel=1e-6)


def test_a_memory_of_few_steps_is_one() -> None:
    assert "its memory ends within 5 steps" in portrait(Rule.parse("late", "-(g + 0.5*lag(g, 5))"), lags=8).sentences()
    assert "it has no memory of gradients" in portrait("sgd", lags=4).sentences()


def test_what_never_rests_is_told_as_it_is_after_some_steps() -> None:
    found = portrait("adagrad", lags=4)
    assert found.settled is not None
    assert not found.settled.at_rest
    assert (found.settled.adaptation, found.settled.power) == pytest.approx((-1, 0), abs=1e-3)
    assert "its memory never fades" in found.sentences()


def test_both_signs_are_looked_at() -> None:
    relu = portrait(Rule.parse("half", "-max(g, 0)"), lags=4).settled
    assert relu is not None
    assert relu.asymmetry == pytest.approx(1)
    adam = portrait("adam", lags=4).settled
    assert adam is not None
    assert adam.asymmetry == 0


def test_a_bent_curve_is_no_power() -> None:
    found = portrait(Rule.parse("clipped", "-clip(g, -1, 1)"), lags=4)
    assert found.settled is not None
    assert math.isnan(found.settled.power)
    assert math.isnan(found.answers.scale_power)
