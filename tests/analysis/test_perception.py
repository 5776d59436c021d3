"""The temporal perception field against closed forms, and against differences."""

import dataclasses
import math

import pytest
import torch

import closedform as cf
from closedform.analysis import perception
from closedform.analysis._replay import in_double
from closedform.analysis.perception import _perception as module
from closedform.errors import OptionError, UnknownNameError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer
from closedform.rules import Rule


def closed_form(kernel: list[float]) -> float:
    return sum((k + 1) * abs(s) for k, s in enumerate(kernel)) / sum(map(abs, kernel))


@pytest.mark.parametrize("beta", [0.3, 0.9, 0.97])
def test_momentum_looks_back_as_far_as_its_memory(beta: float) -> None:
    rule = cf.load_rule("momentum").with_constants(beta=beta)
    assert perception(rule).gradient.tpf == pytest.approx(1 / (1 - beta), rel=1e-3)


def test_gradient_descent_sees_the_present_alone() -> None:
    curve = perception("sgd").gradient
    assert (curve.tpf, curve.tail) == (1.0, 0.0)
    assert curve.sensitivity[0] == pytest.approx(cf.load_rule("sgd").lr, rel=0.1)  # normal gradients of deviation 1


def test_nesterov() -> None:
    b = cf.load_rule("nesterov").constants["beta"]
    kernel = [1 + b, *(b ** (k + 1) for k in range(1, 500))]
    assert perception("nesterov").gradient.tpf == pytest.approx(closed_form(kernel), rel=1e-3)


def test_adams_memories_are_told_apart() -> None:
    found = perception("adam")
    assert [curve.input for curve in found.curves] == ["gradient", "m", "v"]
    assert found.get("m").tpf == pytest.approx(1 / (1 - 0.9), rel=1e-3)
    assert found.get("v").tpf == pytest.approx(1 / (1 - 0.999), rel=1e-3)
    assert found.get("v").told.startswith("about")  # most of it lies past the last lag


def test_adam_with_a_frozen_second_moment_is_its_momentum() -> None:
    frozen = Rule.parse("frozen", "-m/2", state={"m": "0.9*m + 0.1*g"})
    assert perception(frozen).gradient.tpf == pytest.approx(10, rel=1e-3)


def test_lion_is_read_inside_its_sign() -> None:
    c = cf.load_rule("lion").constants
    a, b = c["beta1"], c["beta2"]
    kernel = [1 - a, *(a * (1 - b) * b ** (k - 1) for k in range(1, 5000))]
    found = perception("lion")
    assert found.gradient.input == "gradient, inside sign"
    assert found.gradient.tpf == pytest.approx(closed_form(kernel), rel=1e-3)
    assert "sign" in found.notes[0]


def test_over_a_recording() -> None:
    recording = cf.record("adam", "mlp-digits", steps=80, episodes=2, coordinates=16)
    assert perception("momentum", recording).gradient.tpf == pytest.approx(10, rel=1e-3)
    assert len(perception("momentum", recording).gradient.sensitivity) < 80


class Opaque(LearnedOptimizer):
    """A rule of which nobody can take derivatives."""

    def __init__(self, rule: Rule, noise: float = 0.0) -> None:
        super().__init__()
        self.inner, self.name, self.random, self.noise = SymbolicOptimizer(rule), rule.name, noise > 0, noise
        self.features, self.state_cost = ("g",), rule.state_cost

    def init_state(self, w, sizes=None, total_steps=None):
        return self.inner.init_state(w, sizes, total_steps)

    def bind(self):
        update = self.inner.bind()

        def opaque(g, w, state):
            if g.requires_grad:
                raise RuntimeError("no derivative of a foreign operation")
            found, state = update(g, w, state)
            return found * (1 + self.noise * torch.randn(())), state

        return opaque


@pytest.mark.parametrize("name", ["momentum", "adam", "adabelief"])
def test_differences_agree_with_derivatives(name: str) -> None:
    rule = cf.load_rule(name)
    exact, found = (perception(o, lags=32, coordinates=8).gradient for o in (rule, Opaque(rule)))
    assert (exact.by, found.by) == ("derivative", "perturbation")
    assert found.sensitivity == pytest.approx(exact.sensitivity, rel=0.01, abs=1e-4 * max(exact.sensitivity))


def test_random_numbers_are_the_same_in_all_runs() -> None:
    found = perception(Opaque(cf.load_rule("momentum"), noise=0.3), lags=16, coordinates=8)
    assert "random" in found.notes[0]
    assert found.gradient.tpf == pytest.approx(perception("momentum", lags=16).gradient.tpf, rel=0.01)


@pytest.mark.parametrize("name", ["dm", "rp", "rp-s"])
def test_networks_agree_with_differences(name: str) -> None:
    network = cf.learned_optimizers.get(name, pretrained=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    field = perception(network, lags=8, coordinates=4)
    assert [curve.input for curve in field.curves] == ["gradient", *network.features]
    exact = field.gradient.sensitivity
    tape, _ = module._tape(network, None, 8, 4, 0)
    double = in_double(network)
    found = module._Field(double, tape, 8, []).by_difference().sensitivity
    assert found == pytest.approx(exact, rel=1e-3, abs=1e-5 * max(exact))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_feature_is_what_is_nudged() -> None:
    network = cf.learned_optimizers.get("rp", pretrained=True)
    w = torch.zeros(3)
    g = torch.tensor([0.1, -0.2, 0.3])
    seen: list[dict] = []

    def change(columns: dict) -> dict:
        seen.append(columns)
        return {**columns, "m_tilde": 2 * columns["m_tilde"]}

    state = network.init_state(w, None, 10)
    plain, changed = network.bind_on(lambda columns: columns)(g, w, state)[0], network.bind_on(change)(g, w, state)[0]
    assert torch.allclose(plain, network.update(g, w, state)[0], atol=1e-7)
    assert not torch.allclose(plain, changed)
    assert set(seen[0]) >= set(network.features)


@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_what_looks_at_whole_tensors_is_given_some(name: str) -> None:
    found = perception(name, lags=16, coordinates=8)
    assert "8 x 8" in found.notes[0]
    assert found.gradient.tpf > 1


def test_what_never_forgets() -> None:
    total = Rule.parse("total", "-s", state={"s": "s + g"})
    assert perception(total, lags=32).gradient.tpf == math.inf


def test_what_is_finite_nowhere() -> None:
    found = perception(Rule.parse("nowhere", "-g*log(-1 - square(g))"))
    assert math.isnan(found.gradient.tpf)
    assert "not finite" in found.notes[0]


def test_what_does_not_read_the_gradient() -> None:
    assert math.isnan(perception(Rule.parse("decay", "-0.1*w")).gradient.tpf)


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="lags"):
        perception("adam", lags=1)
    with pytest.raises(UnknownNameError, match="adam"):
        perception("adamm")
    with pytest.raises(OptionError, match="no input 'x'"):
        perception("adam", lags=4).get("x")
    recording = cf.record("sgd", "mlp-digits", steps=5, episodes=1, coordinates=4)
    dead = dataclasses.replace(recording, gradients=torch.full_like(recording.gradients, torch.nan))
    with pytest.raises(OptionError, match="record longer"):
        perception("adam", dead)


class CutOff(LearnedOptimizer):
    """Momentum whose state has no derivatives."""

    name, features, state_cost = "cut-off", ("g",), 1

    def init_state(self, w, sizes=None, total_steps=None):
        return {"m": torch.zeros_like(w)}

    def bind(self):
        def update(g, w, state):
            m = 0.5 * state["m"].detach() + g
            return -m, {"m": m}

        return update


def test_a_memory_without_derivatives_is_not_missed() -> None:
    found = perception(CutOff(), lags=16, coordinates=8)
    assert "derivatives miss" in found.notes[0]
    assert found.gradient.by == "perturbation"
    assert found.gradient.tpf == pytest.approx(2.0, rel=1e-3)


def test_a_lag_past_the_usual_window_is_seen() -> None:
    rule = Rule.parse("late", "-g - lag(g, 100)")
    found = perception(rule)
    assert found.gradient.tpf == pytest.approx((1 + 101) / 2, rel=1e-6)
    assert "looks back 100 steps" in perception(rule, lags=20).notes[0]
