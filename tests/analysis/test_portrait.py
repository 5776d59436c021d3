"""The portrait against closed forms."""

import cmath
import math

import numpy as np
import pytest

import closedform as cf
from closedform.analysis import portrait
from closedform.analysis.portrait import radius_over
from closedform.analysis.portrait._settled import time_scales
from closedform.errors import OptionError
from closedform.rules import Rule


@pytest.mark.parametrize("b", [0.5, 0.9, 0.99, 0.9999])
def test_an_average_fades_by_e_in_its_time(b: float) -> None:
    rule = Rule.parse("average", "-m", state={"m": f"{b}*m + (1 - {b})*g"})
    rest = portrait(rule, lags=4).settled
    assert rest is not None
    assert rest.at_rest
    (mode,) = rest.time_scales
    assert mode.steps == pytest.approx(-1 / math.log(b), rel=1e-6)
    assert rest.updates == pytest.approx(rest.gradients, rel=1e-5)
    assert (rest.adaptation, rest.power) == pytest.approx((0, 1), abs=1e-6)


def test_adams_memories_and_its_adaptation() -> None:
    found = portrait(cf.load_rule("adam").with_constants(eps=0.0), lags=8)
    assert found.settled is not None
    assert [mode.steps for mode in found.settled.time_scales] == pytest.approx(
        [-1 / math.log(0.999), -1 / math.log(0.9)], rel=1e-6
    )
    assert found.settled.adaptation == pytest.approx(-1, abs=1e-6)
    assert found.settled.power == pytest.approx(0, abs=1e-6)
    assert found.answers.scale_power == pytest.approx(0, abs=1e-9)
    assert found.quadratics is None


def test_a_turning_mode_has_its_period() -> None:
    b, angle = 0.9, 2 * math.pi / 12
    matrix = b * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    (mode,) = time_scales(matrix)
    assert (mode.steps, mode.period) == pytest.approx((-1 / math.log(b), 12))
    assert time_scales(np.eye(1))[0].steps == math.inf


def test_the_spectrum_of_an_average() -> None:
    b = 0.9
    found = portrait(Rule.parse("average", "-m", state={"m": f"{b}*m + (1 - {b})*g"}), lags=400).spectrum
    assert found is not None
    for f, gain, phase in zip(found.frequency, found.gain, found.phase, strict=True):
        exact = (1 - b) / (1 - b * cmath.exp(-2j * math.pi * f))
        assert gain == pytest.approx(abs(exact), rel=1e-6)
        assert phase == pytest.approx(cmath.phase(exact), abs=1e-6)
    assert (found.drift, found.noise) == pytest.approx((1, math.sqrt((1 - b) / (1 + b))), rel=1e-6)
    assert found.averaging == pytest.approx((1 + b) / (1 - b), rel=1e-6)


def test_gradient_descent_on_quadratics() -> None:
    found = portrait("sgd", lags=2).quadratics
    assert found is not None
    assert found.limit == pytest.approx(2, rel=1e-6)
    assert found.best == pytest.approx(found.gradient_descent, rel=1e-3)
    assert found.radius == pytest.approx([abs(1 - rate) for rate in found.rate], abs=1e-12)


@pytest.mark.parametrize("b", [0.3, 0.9])
def test_heavy_ball_on_quadratics(b: float) -> None:
    found = portrait(cf.load_rule("momentum").with_constants(beta=b), lags=2).quadratics
    assert found is not None
    assert found.limit == pytest.approx(2 * (1 + b), rel=1e-6)


def test_heavy_ball_reaches_its_best_with_its_best_momentum() -> None:
    root = math.sqrt(100)
    b = ((root - 1) / (root + 1)) ** 2
    found = portrait(cf.load_rule("momentum").with_constants(beta=b), lags=2).quadratics
    assert found is not None
    assert found.best == pytest.approx(found.heavy_ball, rel=2e-2)


def test_radius_of_nesterov_is_that_of_its_matrix() -> None:
    b, rate = 0.9, 0.7
    matrix = np.array([[1 - rate * (1 + b), -rate * b * b], [1.0, b]])  # w, m = b m + g; w -= rate (g + b m)
    rule = Rule.parse("nesterov", "-(g + 0.9*m)", state={"m": "0.9*m + g"})
    found = radius_over(rule, np.array([rate]))
    assert found is not None
    assert found[0] == pytest.approx(np.abs(np.linalg.eigvals(matrix)).max(), rel=1e-9)


def test_momentum_coasts_as_it_fades() -> None:
    found = portrait(cf.load_rule("momentum").with_constants(beta=0.8), lags=2).answers
    assert found.coasting[:10] == pytest.approx([0.8 ** (k + 1) for k in range(10)], rel=1e-6)
    assert found.half_life == 4  # the fourth step without a gradient: 0.8^4 = 0.41, the first below a half
    assert found.saturation == math.inf
    assert found.rate == pytest.approx(cf.load_rule("momentum").lr, rel=1e-9)


def test_clipping_is_where_it_saturates() -> None:
    found = portrait(Rule.parse("clipped", "-tanh(g)"), lags=2).answers
    half = math.acosh(math.sqrt(2))  # where 1/cosh^2 is a half
    assert found.rate == pytest.approx(1, rel=1e-5)
    assert half <= found.saturation <= half * 10 ** (1 / 20)


def test_an_episode_shows_its_warm_up() -> None:
    found = portrait(Rule.parse("ramp", "-progress*g"), lags=2).answers
    third = len(found.schedule) // 3
    assert sum(found.schedule[:third]) < 0.3 * sum(found.schedule[-third:])


@pytest.mark.parametrize(("name", "power"), [("sgd", 1), ("lion", 0), ("muon", 0)])
def test_scale(name: str, power: float) -> None:
    assert portrait(name, lags=4, samples=64).answers.scale_power == pytest.approx(power, abs=1e-3)


def test_who_reads_what() -> None:
    adamw, lamb, lion = (portrait(name, lags=4, samples=128).answers for name in ("adamw", "lamb", "lion"))
    assert (adamw.reads_weights, adamw.reads_others, adamw.odd) == (True, False, False)
    assert (lamb.reads_weights, lamb.reads_others) == (True, True)
    assert (lion.reads_others, lion.odd) == (False, True)


def test_networks_have_one_too() -> None:
    found = portrait(cf.learned_optimizers.get("rp-s", pretrained=True), lags=16)
    assert found.settled is not None
    assert found.spectrum is not None
    assert found.answers.rate > 0
    assert len(found.settled.time_scales) > 2


def test_what_is_not_finite_has_none() -> None:
    with pytest.raises(OptionError, match="not finite"):
        portrait(Rule.parse("nowhere", "-log(-1 - square(g))"))


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="multiple of 64"):
        portrait("sgd", samples=100)


def test_all_of_it_is_plain_data() -> None:
    assert portrait("adam", lags=4, samples=64).to_dict()["settled"]["at_rest"] is True
