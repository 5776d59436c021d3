"""Likely mistakes in first calls of the interface: one line that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import closedform as cf
from closedform import tasks
from closedform.errors import OptionError
from closedform.optim import LearningRateFinder


def wrong(value: object) -> Any:
    return value


def test_a_recording_is_no_path() -> None:
    with pytest.raises(OptionError, match=r"distill takes a recording, not str: .* Trajectories\.load"):
        cf.distill(wrong("runs/nadam.safetensors"))


def test_a_torch_module_is_no_learned_optimizer() -> None:
    with pytest.raises(OptionError, match="not Sequential: .*from_module"):
        cf.meta_train(wrong(nn.Sequential(nn.Linear(2, 1))), "quadratic")


def test_tasks_are_taken_by_name_or_alone() -> None:
    def trained(given: Any) -> list[float]:
        network = cf.learned_optimizers.get("rp-s", generator=torch.Generator().manual_seed(0))
        cf.meta_train(network, given, steps=2, horizon=10, validate_every=0, estimator=cf.TruncatedBPTT(5))
        return [float(value) for parameter in network.parameters() for value in parameter.detach().reshape(-1)[:2]]

    task = tasks.get("quadratic")
    assert trained([task]) == trained(task) == trained("quadratic") == trained(["quadratic"])


def test_optimizers_are_compared_by_name() -> None:
    with pytest.raises(OptionError, match="optimizers are given by name"):
        cf.evaluate(wrong(["cf1"]), ["quadratic"])


def test_a_comparison_prints_its_tables() -> None:
    found = cf.evaluate({}, ["quadratic"], steps=10, seeds=2, baselines=["sgd"], workers=1)
    text = str(found)
    assert "quadratic" in text
    assert "SGD" in text
    assert "Summary(" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_outputs_and_targets_of_other_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 3, generator=generator), torch.randn(64, generator=generator)
    with pytest.raises(OptionError, match=r"differ in shape, and would be spread .*reshape the targets"):
        tasks.from_arrays(x, y, lambda: nn.Linear(3, 1), loss=nn.functional.mse_loss)
    tasks.from_arrays(x, y[:, None], lambda: nn.Linear(3, 1), loss=nn.functional.mse_loss)


def test_a_finder_is_told_one_number() -> None:
    weight = nn.Parameter(torch.zeros(3))
    finder = LearningRateFinder(torch.optim.SGD([weight], lr=0.1))
    with pytest.raises(OptionError, match="no step was made yet"):
        finder.result()
    with pytest.raises(OptionError, match=r"one number, not of shape \(3,\)"):
        finder.step(torch.zeros(3))


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
def test_a_schedule_that_has_ended_leaves_a_rule_that_moves() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = cf.RuleOptimizer([weight], "adam", lr=0.1)
    tuner = cf.MetaTuner(optimizer, trainable=["lr"], rate=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 5)
    for _ in range(5):
        optimizer.zero_grad()
        weight.square().sum().backward()
        tuner.step()
        schedule.step()
    assert tuner.constants["lr"] == 0
    assert tuner.rule.lr == pytest.approx(0.1)
