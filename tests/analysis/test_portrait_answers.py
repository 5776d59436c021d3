"""Answers of hard cases: jumps, signs, weights, draws, updates that end; filters with long memories; weight decay."""

import math
from collections.abc import Callable

import pytest
import torch

import closedform as cf
from closedform.analysis import portrait
from closedform.analysis.portrait._spectrum import spectrum_of
from closedform.learned_optimizers import BlackBox
from closedform.rules import Rule


def test_half_of_a_step_without_gradients() -> None:
    assert portrait("sgd", lags=4).answers.half_life == 1
    assert portrait("momentum", lags=4).answers.half_life == 7  # 0.9^7 = 0.48
    assert "without gradients, its step is not halved within 100 steps" in portrait("lion", lags=4).sentences()


def test_the_rate_of_a_sign_is_that_of_its_mean() -> None:
    found = portrait("lion", lags=4, samples=4096).answers
    deviation = 0.9 * math.sqrt(0.01 / 1.99 * (1 - 0.99**200))  # of 0.9 m, m the mean of 100 gradients
    exact = 2 * 1e-4 * 0.1 / (deviation * math.sqrt(2 * math.pi))  # d E sign(0.9 m + 0.1 g)/dg at 0
    assert found.rate == pytest.approx(exact, rel=0.15)
    half = deviation / 0.1 * math.sqrt(2 * math.log(2))
    assert found.saturation == pytest.approx(half, rel=0.2)


def test_a_jump_has_no_rate() -> None:
    found = portrait(Rule.parse("sign", "-sign(g)"), lags=4)
    assert math.isnan(found.answers.rate)
    assert math.isnan(found.answers.saturation)
    assert any("jumps" in note for note in found.notes)


def test_signs_of_parameters_are_seen() -> None:
    found = portrait(Rule.parse("lasso", "-(g + 0.1*sign(w))"), lags=4).answers
    assert found.reads_weights
    assert not found.odd
    assert found.odd_with_weights


@pytest.mark.parametrize("rule", ["0*g", "-0*g"])
def test_one_that_stands_still(rule: str) -> None:
    found = portrait(Rule.parse("still", rule), lags=4).answers
    assert (found.rate, set(found.schedule), found.coasting) == (0, {0.0}, ())


def test_updates_that_end_are_told() -> None:
    found = portrait(Rule.parse("ends", "-g*sqrt(150 - t)"), lags=4)
    assert any("not finite from step 151" in note for note in found.notes)
    assert max(x for x in found.answers.schedule if math.isfinite(x)) == 1


class Noisy(torch.optim.Optimizer):
    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad + 0.1 * torch.randn_like(p), alpha=-0.1)


def test_draws_are_the_same_in_every_run() -> None:
    found = portrait(BlackBox(Noisy, "noisy"), lags=4)
    assert found.answers.rate == pytest.approx(0.1, rel=1e-6)
    assert not found.answers.reads_weights
    assert found.spectrum is None
    assert "draws random numbers: the same ones in every run" in found.notes


def test_a_black_box_answers_as_its_rule() -> None:
    theirs = portrait(BlackBox(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), "sgd"), lags=16)
    ours = portrait("momentum", lags=16)
    assert theirs.answers.coasting == pytest.approx(ours.answers.coasting, rel=1e-9)
    assert theirs.answers.rate == pytest.approx(ours.answers.rate, rel=1e-6)
    assert theirs.spectrum is not None
    assert ours.spectrum is not None
    assert theirs.spectrum.gain == pytest.approx(ours.spectrum.gain, rel=1e-4)
    assert theirs.settled is None


@pytest.mark.parametrize("b", [0.9, 0.999])
def test_a_long_average_is_seen_through_few_lags(b: float) -> None:
    found = portrait(Rule.parse("average", "-m", state={"m": f"{b}*m + (1 - {b})*g"})).spectrum
    assert found is not None
    assert found.drift == pytest.approx(1, rel=1e-6)
    assert found.averaging == pytest.approx((1 + b) / (1 - b), rel=1e-6)
    assert found.tail == pytest.approx(b**128, rel=1e-4, abs=1e-12)


def test_a_response_that_stays_has_no_drift() -> None:
    assert spectrum_of([1.0] * 64).tail == 1
    found = portrait(Rule.parse("sum", "-m", state={"m": "m + g"}), lags=32)
    assert any("does not fade within 32 steps" in note for note in found.notes)
    assert not any("averages over" in line for line in found.sentences())


def test_weight_decay_counts_apart_from_curvature() -> None:
    found = portrait(Rule.parse("decayed", "-(g + 0.1*w)"), lags=4).quadratics
    assert found is not None
    assert not found.product
    assert found.limit == pytest.approx(2 / 1.1, rel=1e-6)
    assert found.best == pytest.approx((100.1 - 1.1) / (100.1 + 1.1), rel=1e-6)  # curvatures 1.1 to 100.1
    assert portrait(Rule.parse("decay", "-0.01*w"), lags=4).quadratics is None


def test_best_rates_to_six_places() -> None:
    sgd = portrait("sgd", lags=4).quadratics
    assert sgd is not None
    assert sgd.best == pytest.approx(99 / 101, rel=1e-6)
    b = (9 / 11) ** 2
    heavy = portrait(cf.load_rule("momentum").with_constants(beta=b), lags=4).quadratics
    assert heavy is not None
    assert heavy.best == pytest.approx(9 / 11, rel=1e-3)  # a double eigenvalue: its root of rounding


def test_why_there_is_nothing_on_quadratics() -> None:
    assert "no closed form on quadratics: it is not linear" in portrait("adam", lags=4).notes
    ascent = portrait(Rule.parse("ascent", "g"), lags=4)
    assert any("no largest stable rate" in note for note in ascent.notes)
