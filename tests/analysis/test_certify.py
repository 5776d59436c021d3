"""Certificates of known rules against what is known of them, and proved bounds against runs."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import late_programs, programs

import closedform as cf
from closedform.analysis import Certificates, certify
from closedform.analysis._bounds import bound
from closedform.analysis._certify import CHECK, EXAMPLE, PROOF, SHAPE, STILL
from closedform.analysis._intervals import SPECTRAL
from closedform.analysis._probe import TOTAL, histories, run
from closedform.analysis._stability import limit_by_runs, linear_limit
from closedform.errors import UnknownNameError
from closedform.lang import Apply, Parity, Program, degrees, newton_schulz, parities
from closedform.rules import Rule, library_names, load_rule

CF1_START = Path(__file__).parents[2] / "benchmarks" / "recipes" / "cf1_start.json"
ADAM = (1 - 0.9) / math.sqrt(1 - 0.999) / math.sqrt(1 - 0.9**2 / 0.999)
"""sup |m|/sqrt(v): Cauchy-Schwarz, reached by gradients that grow by 0.999/0.9 a step."""
NO = ("no", "example")
DECAYING, NOT_HOMOGENEOUS = ("adamw", "cautious-adamw", "lamb"), ("mars", "radam")
"""The library's rules that decay weights, and those of no degree in the gradient; see docs/concepts.md."""

# rule: odd, no drift, degree in g, degree in w, bound, largest stable rate
KNOWN = {
    "sgd": (("yes", "proof"), ("yes", "proof"), 1, 0, math.inf, 2),
    "momentum": (("yes", "proof"), ("yes", "proof"), 1, 0, math.inf, 2 * 1.9),
    "nesterov": (("yes", "proof"), ("yes", "proof"), 1, 0, math.inf, 2 * 1.9 / 2.8),
    "adam": (("yes", "proof"), ("yes", "proof"), 0, 0, ADAM, 2),
    "adamw": (NO, NO, 0, None, ADAM + 0.01, 2 - 0.02),
    "adagrad": (("yes", "proof"), ("yes", "proof"), 0, 0, 1, 2),
    "adamax": (("yes", "proof"), ("yes", "proof"), 0, 0, 0.1 / (1 - 0.9 / 0.999), 2),
    "rmsprop": (("yes", "proof"), ("yes", "proof"), 0, 0, 10, 0.2),
    "lion": (("yes", "proof"), ("yes", "proof"), 0, 0, 1, 1),
    "signum": (("yes", "proof"), ("yes", "proof"), 0, 0, 1, None),
    "muon": (("yes", "proof"), ("yes", "proof"), 0, 0, SPECTRAL, None),
    "adafactor": (("yes", "proof"), ("yes", "proof"), 0, 1, 32, None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_rules(name: str) -> None:
    odd, still, degree_g, degree_w, largest, stable = KNOWN[name]
    found = certify(name)
    assert (found.odd.answer, found.odd.by) == odd
    assert (found.no_drift.answer, found.no_drift.by) == still
    assert (found.degree_g.value, found.degree_g.by) == (degree_g, "proof")
    assert found.degree_w.value == degree_w
    assert found.bound.value == pytest.approx(largest, rel=1e-6)
    assert found.bound.by == "proof"
    assert stable is None or found.stable_lr.value == pytest.approx(stable, rel=1e-3)


def test_what_is_only_up_to_eps_says_so() -> None:
    assert certify("adam").degree_g.note == "up to eps = 1e-08"
    assert certify("lion").degree_g.note == ""
    assert certify("muon").degree_g.note == "for matrices only"
    assert certify("adafactor").degree_w.note == "up to eps = 0.001"


def test_adamw_is_odd_but_for_its_decay() -> None:
    found = certify("adamw")
    assert "odd in g and w together" in found.odd.note
    assert "weight decay" in found.no_drift.note


@pytest.mark.parametrize("rule", ["cf1", CF1_START])
def test_cf1_keeps_its_certificates(rule: str | Path) -> None:
    """The rule that ships, and where its search began."""
    found = certify(rule)
    assert (found.odd.value, found.odd.by) == (True, "proof")
    assert (found.no_drift.value, found.no_drift.by) == (True, "proof")
    assert (found.degree_g.value, found.degree_g.by, found.degree_g.note) == (0, "proof", "up to eps = 1e-20")
    assert (found.past_horizon.value, found.past_horizon.by) == (STILL, "proof")
    assert found.fades.value is True
    assert math.isfinite(found.bound.value)
    assert found.bound.by == "proof"
    assert found.bound.note == "|w| <= 1, a 32 x 32 matrix, T = 1000"
    assert found.stable_lr.value > 1
    loaded = load_rule(rule)
    assert loaded.complexity <= 60
    assert loaded.state_cost <= 3


def test_a_drift_is_found() -> None:
    found = certify(Rule.parse("drift", "-m + 0.001", state={"m": "0.9*m + g"}))
    assert (found.odd.value, found.odd.by) == (False, "example")
    assert (found.no_drift.value, found.no_drift.by, found.no_drift.note) == (False, "example", "")
    late = certify(Rule.parse("late", "-g + greater(t, 30)"))
    assert late.no_drift.value is False


def test_what_no_proof_reaches_is_checked_and_said_so() -> None:
    found = certify(Rule.parse("odd", "exp(-g) - exp(g)"))
    assert (found.odd.value, found.odd.by) == (True, "check")
    assert (found.no_drift.value, found.no_drift.by) == (True, "check")
    assert (found.degree_g.value, found.degree_g.by) == (None, "example")
    same = certify(Rule.parse("same", "-sign(g)*exp(log(abs(g)))"))
    assert (same.degree_g.value, same.degree_g.by) == (pytest.approx(1), "check")


def test_nothing_is_checked_by_what_is_not_finite() -> None:
    found = certify(Rule.parse("endless", "exp(1000 + 0*g)"))
    assert (found.odd.value, found.odd.by) == (False, "example")
    assert (found.degree_g.value, found.degree_g.by) == (0, "proof")
    assert (found.bound.value, found.bound.by, found.bound.note) == (math.inf, "example", "not finite in a run")
    assert certify(Rule.parse("nowhere", "log(-1 - abs(g)) + log(-w - 1)")).degree_w.value is None


def test_signs_of_an_average_never_fade() -> None:
    assert certify("momentum").fades.value is True
    assert certify("lion").fades.value is False


def test_past_the_horizon() -> None:
    assert certify("adam").past_horizon.value == "has no horizon"
    assert certify(Rule.parse("linear", "-g*(1 - progress)")).past_horizon.value == STILL
    assert certify(Rule.parse("half", "-g*(1 - progress/2)")).past_horizon.value == "goes on as at progress = 1"


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "adamax", "lion", "adafactor"])
def test_bounds_are_close_to_what_happens(name: str) -> None:
    """No run is beyond, and some gradients come near; of Adafactor one gradient in a matrix of zeros."""
    program = load_rule(name).program
    every = histories((8, 8), 1500)
    single = torch.zeros_like(every["one"])
    single[-1, 0, 0] = 1.0
    gradients = torch.stack([single, every["growing 1"], every["growing 1.1"]])
    seen = float(run(program, gradients, torch.ones((8, 8), dtype=torch.float64)).abs().max())
    proved = bound(program, (8, 8), TOTAL, 1.0)
    assert 0.88 * proved <= seen <= proved * (1 + 1e-9)


@settings(max_examples=100)
@given(st.one_of(programs, late_programs), st.integers(0, 100))
def test_no_run_is_beyond_a_proved_bound(program: Program, seed: int) -> None:
    inner = program.outputs["update"]
    assert isinstance(inner, Apply)
    program = Program(program.constants, program.state, program.where, {"update": inner.args[0]}, program.init)
    proved = bound(program, (5, 4), TOTAL, 1.0)
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand((5, 4), generator=generator, dtype=torch.float64) * 2 - 1
    gradients = 10 * torch.randn((2, 12, 5, 4), generator=generator, dtype=torch.float64) ** 3
    assert float(run(program, gradients, w).abs().max()) <= proved * (1 + 1e-9) + 1e-9


def test_newton_schulz_keeps_to_its_bound(generator: torch.Generator) -> None:
    values = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
        assert float(values.max()) <= SPECTRAL
    x = torch.randn((6, 4), generator=generator, dtype=torch.float64)
    assert float(torch.linalg.matrix_norm(newton_schulz(x), 2)) <= SPECTRAL


@pytest.mark.parametrize("update", ["-g", "-g - 0.25*w", "-3*g"])
def test_runs_and_eigenvalues_agree(update: str) -> None:
    """Where nothing overshoots on the way, both say the same."""
    program = Rule.parse("linear", update).program
    assert limit_by_runs(program) == pytest.approx(linear_limit(program), rel=1e-3)


def test_weight_decay_and_ascent_in_a_linear_rule() -> None:
    assert linear_limit(Rule.parse("decayed", "-g - 0.5*w").program) == pytest.approx(2 / 1.5)
    assert linear_limit(Rule.parse("ascent", "g").program) == 0
    assert linear_limit(Rule.parse("idle", "0*g").program) == math.inf
    assert linear_limit(load_rule("adam").program) is None


@pytest.mark.parametrize("name", library_names())
def test_what_the_documentation_says_of_the_library(name: str) -> None:
    program = load_rule(name).program.live
    turned = ("g", "w") if name in DECAYING else ("g",)
    assert parities(program, odd=turned)["update"] is Parity.ODD
    assert (parities(program)["update"] is Parity.ODD) == (name not in DECAYING)
    assert (parities(program, odd=(), zero=("g",))["update"] is Parity.ZERO) == (name not in DECAYING)
    degree = degrees(program, {"g": 1.0})["update"]
    assert (degree is None) == (name in NOT_HOMOGENEOUS)
    assert degree is None or degree.power == (1 if name in ("sgd", "momentum", "nesterov") else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", library_names())
def test_every_rule_can_be_certified(name: str) -> None:
    """What is said to be proved shows in runs; what is not says that it was an example or a check."""
    found, program = certify(name), load_rule(name).program.live
    assert len(list(found)) == 8
    assert {entry.by for entry in found} <= {PROOF, EXAMPLE, CHECK}
    json.dumps(found.to_dict(), allow_nan=False)
    every = histories((8, 6), 30)
    gradients = torch.stack([every["normal"], every["heavy-tailed"], every["growing 1.1"]])
    w = torch.randn((8, 6), generator=torch.Generator().manual_seed(2), dtype=torch.float64).clamp(-1, 1)
    updates = run(program, gradients, w)
    assert float(updates.abs().max()) <= bound(program, (8, 6), TOTAL, 1.0) * (1 + 1e-9)
    if found.odd.value:
        torch.testing.assert_close(run(program, -gradients, w), -updates)
    if found.no_drift.value:
        assert not run(program, torch.zeros_like(gradients), w).any()
    large = 1e6 * (every["normal"] + every["normal"].sign())[None]  # beyond any floor
    updates = run(program, large, w)
    if found.degree_g.value is not None:
        scaled = run(program, 8 * large, w)
        torch.testing.assert_close(scaled, 8**found.degree_g.value * updates, rtol=1e-3, atol=1e-9)
    if found.degree_w.value is not None:
        grown = run(program, large, 8 * w)
        torch.testing.assert_close(grown, 8**found.degree_w.value * updates, rtol=1e-3, atol=1e-9)


def test_by_name_and_as_json() -> None:
    found = cf.certify("sgd")
    assert isinstance(found, Certificates)
    assert found.to_dict()["bound"]["value"] == "unbounded"
    assert str(found.bound) == "bound on |update|: unbounded (proof; grows as |g|**1)"
    assert str(found.odd) == "odd in g: yes (proof)"
    assert SHAPE == (32, 32)
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        certify("adamm")
