"""Features against their definitions, written out by hand."""

import math

import pytest
import torch

from closedform.errors import RuleError, UnknownNameError
from closedform.features import FEATURES, feature_program, rule_from_features
from closedform.lang import initial_memory, parse, step

GRADIENTS = [0.3, -2.0, 0.001, 5.0, -0.7]


def run(program, gradients=GRADIENTS):
    memory = initial_memory(program, torch.zeros(1, dtype=torch.float64))
    rows = []
    for t, g in enumerate(gradients, 1):
        inputs = {
            "g": torch.tensor([g], dtype=torch.float64),
            "w": torch.tensor([0.5], dtype=torch.float64),
            "t": torch.tensor(float(t), dtype=torch.float64),
        }
        outputs, memory = step(program, inputs, memory)
        rows.append({name: float(value) for name, value in outputs.items()})
    return rows


def ema(values, decay):
    found, total = [], 0.0
    for value in values:
        total = decay * total + (1 - decay) * value
        found.append(total)
    return found


def test_rnnprop_inputs() -> None:
    rows = run(feature_program(["m_tilde", "g_tilde", "n_tilde"]))
    b, eps = 0.95, 1e-8
    m, v = ema(GRADIENTS, b), ema([g**2 for g in GRADIENTS], b)
    n = ema([abs(g) ** 3 for g in GRADIENTS], b)
    for t, row in enumerate(rows, 1):
        correction = 1 - b**t
        m_hat, v_hat, n_hat = m[t - 1] / correction, v[t - 1] / correction, n[t - 1] / correction
        assert row["m_tilde"] == pytest.approx(m_hat / (math.sqrt(v_hat) + eps), rel=1e-12)
        assert row["g_tilde"] == pytest.approx(GRADIENTS[t - 1] / (math.sqrt(v_hat) + eps), rel=1e-12)
        assert row["n_tilde"] == pytest.approx(m_hat / (n_hat ** (1 / 3) + eps), rel=1e-12)


def test_log_preprocessing() -> None:
    gradients = [1.0, -0.5, 1e-3, 1e-6, -1e-6, 0.0]
    for g, row in zip(gradients, run(feature_program(["log_g", "sign_g"]), gradients), strict=True):
        large = abs(g) >= math.exp(-10)
        expected = (math.log(abs(g)) / 10, math.copysign(1, g)) if large else (-1.0, math.exp(10) * g)
        assert (row["log_g"], row["sign_g"]) == pytest.approx(expected, rel=1e-12)


def test_momenta_and_steps() -> None:
    rows = run(feature_program(["mom5", "mom9", "mom99", "steps", "w", "g"]))
    for t, row in enumerate(rows, 1):
        assert row["mom5"] == pytest.approx(ema(GRADIENTS, 0.5)[t - 1])
        assert row["mom9"] == pytest.approx(ema(GRADIENTS, 0.9)[t - 1])
        assert row["mom99"] == pytest.approx(ema(GRADIENTS, 0.99)[t - 1])
        assert (row["steps"], row["w"], row["g"]) == (t, 0.5, GRADIENTS[t - 1])


def test_normalised_momenta() -> None:
    rows = run(feature_program(["v999", "rsqrt_v999", "mom9_v999", "mom99_v999", "mom999_v999"]))
    second = ema([g**2 for g in GRADIENTS], 0.999)
    for t, row in enumerate(rows):
        assert row["v999"] == pytest.approx(second[t])
        assert row["rsqrt_v999"] == pytest.approx((second[t] + 1e-6) ** -0.5)
        for name, decay in (("mom9", 0.9), ("mom99", 0.99), ("mom999", 0.999)):
            expected = ema(GRADIENTS, decay)[t] / math.sqrt(second[t] + 1e-6)
            assert row[f"{name}_v999"] == pytest.approx(expected)


def test_encodings_of_time() -> None:
    names = [f"time{scale}" for scale in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)]
    assert names == [name for name in FEATURES if name.startswith("time")]
    for t, row in enumerate(run(feature_program(names))):
        assert row == pytest.approx({name: math.tanh(t / int(name[4:]) - 1) for name in names})


def test_fragments_share_their_states() -> None:
    assert feature_program(["m_tilde", "g_tilde"]).state_cost == 2
    assert feature_program(["m_tilde", "g_tilde", "n_tilde"]).state_cost == 3
    assert feature_program(FEATURES).state_cost == 3 + 4 + 1  # m, v, n, four momenta, and v999


def test_rule_takes_the_fragments_it_needs() -> None:
    rule = rule_from_features("r", parse("-a*tanh(m_tilde)"), ["m_tilde", "g_tilde", "n_tilde"], constants={"a": 0.01})
    assert rule.state_cost == 2
    assert set(rule.state) == {"m", "v"}
    assert rule.constants == {"b1": 0.95, "b2": 0.95, "eps": 1e-8, "a": 0.01}
    with_lag = rule_from_features("r", parse("lag(m_tilde, 3)"), ["m_tilde"])
    assert with_lag.state_cost == 5
    with pytest.raises(RuleError, match='constant "b1" has the name'):
        rule_from_features("r", parse("b1*m_tilde"), ["m_tilde"], constants={"b1": 1.0})
    with pytest.raises(UnknownNameError, match="did you mean 'm_tilde'"):
        feature_program(["m_tild"])
