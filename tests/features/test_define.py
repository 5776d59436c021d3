"""Features by an expression."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import closedform as cf
from closedform.errors import ClosedFormError, RuleError
from closedform.features import FEATURES, define


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = dict(FEATURES)
    yield
    FEATURES.clear()
    FEATURES.update(before)


def test_it_is_a_column_and_an_input_of_networks() -> None:
    define("lately", "slow/(abs(g) + eps)", state={"slow": "0.9*slow + 0.1*g"}, constants={"eps": 1e-3})
    recording = cf.record("sgd", "quadratic", features=("lately", "g"), steps=12, episodes=2)
    slow = torch.zeros_like(recording.gradients[:, 0])
    columns = []
    for t in range(12):
        slow = 0.9 * slow + 0.1 * recording.gradients[:, t]
        columns.append(slow / (recording.gradients[:, t].abs() + 1e-3))
    expected = torch.stack(columns, dim=1)[recording.positions()]
    assert torch.allclose(recording.features[:, 0], expected, rtol=1e-4, atol=1e-6)
    optimizer = cf.learned_optimizers.from_module(torch.nn.Linear(1, 1), ["lately"])
    assert optimizer.state_cost == 1


def test_what_is_distilled_from_it_is_a_whole_rule() -> None:
    define("slowly", "slow", state={"slow": "0.9*slow + 0.1*g"})
    rule = cf.Rule.parse("mine", "-slow", state={"slow": "0.9*slow + 0.1*g"}, lr=0.1)
    recording = cf.record(rule, "quadratic", features=("slowly",), steps=30, episodes=4)
    found = cf.distill(recording, "sparse", time_limit=0).choose()
    assert found.error < 1e-9
    assert found.rule.state_cost == 1


def test_names_are_given_once() -> None:
    define("mine", "g*g")
    assert define("mine", "g*g") == FEATURES["mine"]
    with pytest.raises(RuleError, match='another feature "mine"'):
        define("mine", "g")
    with pytest.raises(RuleError, match='another feature "g"'):
        define("g", "w")


@pytest.mark.parametrize("text", ["g +", "nothing*g", "__import__(1)", ""])
def test_what_is_no_expression_is_refused_and_leaves_nothing(text: str) -> None:
    with pytest.raises(ClosedFormError):
        define("bad", text)
    assert "bad" not in FEATURES
