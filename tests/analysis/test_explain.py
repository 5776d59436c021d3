"""Responses of known optimizers against what is known of them."""

import itertools
import json
import math

import pytest

from closedform.analysis import explain
from closedform.errors import OptionError, UnknownNameError
from closedform.rules import Rule


def test_sgd_answers_in_proportion_and_at_once() -> None:
    found = explain("sgd", samples=64)
    assert found.gradient_response.y == pytest.approx([-x for x in found.gradient_response.x])
    assert found.impulse_response.y == pytest.approx([1.0] + [0.0] * 19)
    assert found.scale_response.y[1] / found.scale_response.y[0] == pytest.approx(10)
    assert (found.complexity, found.state_cost, found.buffers) == (2, 0, [])


def test_momentum_forgets_by_its_decay() -> None:
    rule = Rule.parse("m", "-m", state={"m": "b*m + g"}, constants={"b": 0.6})
    share = explain(rule, samples=16).impulse_response.y
    assert [b / a for a, b in itertools.pairwise(share)][:10] == pytest.approx([0.6] * 10, rel=1e-6)


def test_adam_adapts_to_the_scale() -> None:
    found = explain("adam", samples=256)
    assert found.scale_response.y[5] == pytest.approx(found.scale_response.y[8], rel=1e-3)
    assert found.buffers == ["m", "v"]
    assert found.equations[0] == "m <- beta1*m + (1 - beta1)*g"
    assert json.loads(json.dumps(found.to_dict()))["state_cost"] == 2


def test_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        explain("adamm")
    with pytest.raises(OptionError, match="lags must be a whole number of at least 1"):
        explain("adam", lags=0)


@pytest.mark.parametrize("name", ["muon", "ademamix"])
def test_rules_of_shapes_and_of_the_horizon(name: str) -> None:
    found = explain(name, lags=3, samples=16)
    assert all(math.isfinite(y) for y in found.gradient_response.y)
    assert found.to_dict()["certificates"]["odd"]["value"] is True
