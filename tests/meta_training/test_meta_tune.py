"""Meta-tuning: constants go to where a known optimum has them, and the rule says where it has been."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from closedform import tasks
from closedform.errors import OptionError, UnknownNameError
from closedform.meta_training import TUNING, MetaTrainConfig, TruncatedBPTT, meta_tune
from closedform.rules import Rule, load_rule

HORIZON = 15


def _mean_loss(task: tasks.Task, lr: torch.Tensor) -> torch.Tensor:
    """Mean over steps 1 .. HORIZON of gradient descent's loss on 0.5 |A (w - w*)|^2, started at 0; lr [L] -> [L].

    Along an eigenvector of A'A with eigenvalue h, the distance starts at that coordinate of w* and shrinks by
    (1 - lr h) a step.
    """
    h, vectors = torch.linalg.eigh((task.matrix.T @ task.matrix).double())
    start = (vectors.T @ task.solution.double()).square()
    s = torch.arange(1, HORIZON + 1, dtype=torch.float64)[:, None, None]
    return (0.5 * h * start * (1 - lr[:, None] * h) ** (2 * s)).sum(-1).mean(0)


def test_sgd_on_a_quadratic_finds_the_best_learning_rate() -> None:
    task, sgd = tasks.get("quadratic", dim=5, condition=10.0), load_rule("sgd")
    task.init = lambda generator: {"w": torch.zeros(5)}
    config = MetaTrainConfig(
        steps=100, horizon=HORIZON, lr=0.2, warmup=0, final_lr=0.02, objective="mean", clip=1e6, validate_every=0
    )
    tuned = meta_tune(sgd, [task], estimator=TruncatedBPTT(HORIZON, second_order=True), config=config)
    grid = torch.arange(0.01, 2.0, 0.01, dtype=torch.float64)
    losses = _mean_loss(task, grid)
    best = grid[losses.argmin()].item()
    assert sgd.lr < 0.02 < best
    assert tuned.lr == pytest.approx(best, rel=0.02)


def test_literals_are_tuned_and_provenance_kept(tmp_path: Path) -> None:
    task = tasks.get("quadratic", dim=5, condition=10.0)
    rule = Rule.parse(
        "mine",
        "-0.05*tanh(3.5*m)",
        state={"m": "b*m + (1 - b)*g"},
        constants={"b": 0.9},
        provenance={"source": "a test"},
    )
    config = replace(TUNING, steps=30, horizon=20, validate_every=10)
    seen: list[int] = []
    tuned = meta_tune(rule, [task], config=config, out=tmp_path, on_record=lambda record: seen.append(record["step"]))
    assert seen == list(range(1, 31))
    assert list(tuned.constants) == ["b", "c1", "c2"]
    assert tuned.constants["c1"] != -0.05
    assert tuned.provenance["source"] == "a test"
    (entry,) = tuned.provenance["meta_tuning"]
    assert entry["from"] == {"lr": 1.0, "b": 0.9, "c1": -0.05, "c2": 3.5}
    assert entry["tasks"] == ["quadratic"]
    assert entry["validation"]["after"] < entry["validation"]["before"]
    assert load_rule(tmp_path / "rule.json") == tuned == Rule.from_json(tuned.to_json())
    json.dumps(tuned.provenance, allow_nan=False)
    twice = meta_tune(tuned, [task], trainable=["c1"], config=replace(config, steps=2))
    assert [list(entry["from"]) for entry in twice.provenance["meta_tuning"]] == [["lr", "b", "c1", "c2"], ["c1"]]
    assert twice.constants["b"] == tuned.constants["b"]


def test_never_worse_in_validation_than_the_rule_given() -> None:
    """A meta-learning rate far too high spoils every candidate but the first."""
    task, adam = tasks.get("quadratic", dim=5), replace(load_rule("adam"), lr=0.3)
    config = MetaTrainConfig(steps=10, horizon=20, lr=50.0, warmup=0, validate_every=5)
    tuned = meta_tune(adam, [task], config=config)
    assert (tuned.lr, tuned.constants) == (adam.lr, adam.constants)


def test_no_tasks() -> None:
    with pytest.raises(OptionError, match="at least one task"):
        meta_tune(load_rule("adam"), [])


def test_unknown_constant() -> None:
    with pytest.raises(UnknownNameError, match="beta3"):
        meta_tune(load_rule("adam"), [tasks.get("quadratic")], trainable=["beta3"])
