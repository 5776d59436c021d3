from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from closedform.analysis import ResponseCurves, response_curves
from closedform.errors import OptionError
from closedform.features import rule_from_features
from closedform.lang import parse
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule, load_rule
from closedform.trajectories import Trajectories, record

RULE = rule_from_features("mine", parse("-0.02*tanh(2*m_tilde) - 0.003*lag(g_tilde, 1)"), ("m_tilde", "g_tilde"))


@pytest.fixture(scope="module")
def recording() -> Trajectories:
    return record(
        SymbolicOptimizer(RULE), "quadratic", steps=40, episodes=2, coordinates=8, samples=400, window=1,
        features=("m_tilde", "g_tilde"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def curves(recording: Trajectories) -> ResponseCurves:
    other = rule_from_features("sign", parse("-0.01*sign(m_tilde)"), ("m_tilde",))
    return response_curves({"same": RULE, "sign": other}, SymbolicOptimizer(RULE), recording)


def test_one_view_a_feature_and_one_by_gradient(curves: ResponseCurves) -> None:
    assert [view.input for view in curves.responses] == ["m_tilde", "g_tilde", "gradient"]


def test_a_rule_reproduces_its_own_recording(curves: ResponseCurves) -> None:
    assert curves.fidelity["same"] == pytest.approx(1.0, abs=1e-6)
    assert curves.fidelity["sign"] < 0.999
    for view in curves.responses:
        assert view.network == pytest.approx(view.rules["same"], abs=1e-6)


def test_the_band_holds_the_mean_of_a_narrow_bin(curves: ResponseCurves) -> None:
    view = curves.responses[0]
    assert view.band is not None
    assert view.network is not None
    inside = [low <= mean <= high for low, mean, high in zip(view.band[0], view.network, view.band[1], strict=True)]
    assert sum(inside) >= 0.8 * len(inside)


def test_the_shape_is_the_equation_with_all_else_at_its_median(curves: ResponseCurves, recording: Trajectories) -> None:
    view = curves.responses[0]
    column = recording.column_names.index("g_tilde_1")
    middle = float(recording.features[:, column].median())
    expected = [-0.02 * float(torch.tanh(torch.tensor(2 * x))) - 0.003 * middle for x in view.x]
    assert view.shapes["same"] == pytest.approx(expected, abs=1e-5)
    assert "same" not in curves.responses[1].shapes  # the present g~ is not in the equation


def test_sgd_answers_to_the_gradient_in_proportion(recording: Trajectories) -> None:
    view = response_curves(dataclasses.replace(load_rule("sgd"), lr=0.1), None, recording).responses[-1]
    assert view.network is None
    answers, multiples = torch.tensor(view.rules["sgd"]), torch.tensor(view.x)
    slope = answers[-1] / multiples[-1]
    assert slope < 0
    assert torch.allclose(answers, slope * multiples, atol=1e-6)


def test_an_episode_that_diverged_is_left_out(recording: Trajectories) -> None:
    gradients: Tensor = recording.gradients.clone()
    gradients[1, 30:] = torch.nan
    broken = dataclasses.replace(recording, gradients=gradients)
    kept = broken.select_episodes([0])
    by_gradient = response_curves(RULE, None, broken).responses[-1]
    assert by_gradient == response_curves(RULE, None, kept).responses[-1]


def test_rules_that_reduce_are_refused(recording: Trajectories) -> None:
    with pytest.raises(OptionError, match="reduces over parameter tensors"):
        response_curves(Rule.parse("r", "-g/norm(g)"), None, recording)
