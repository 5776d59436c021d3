"""Range tests of the learning rate: on a quadratic whose best rate is known, in a loop of one's own, by command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import closedform as cf
from closedform.cli import app
from closedform.errors import DivergenceError, OptionError
from closedform.optim import LearningRateFinder, RangeTest
from closedform.optim._learning_rate import FEWEST
from closedform.report import range_test_plot


def optimizer(*rates: float, kind: type[torch.optim.Optimizer] = torch.optim.SGD) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates]
    return kind(groups)


def test_rates_rise_from_low_to_high_and_keep_their_ratios() -> None:
    made = optimizer(0.2, 0.1)
    finder = LearningRateFinder(made, low=1e-3, high=10, steps=9)
    seen = [[group["lr"] for group in made.param_groups]]
    while finder.step(1 - 0.01 * len(seen)):
        seen.append([group["lr"] for group in made.param_groups])
    assert [rates[0] for rates in seen] == pytest.approx([10 ** (-3 + k / 2) for k in range(9)])
    assert all(second == pytest.approx(first / 2) for first, second in seen)
    assert finder.result().lrs == pytest.approx([rates[0] for rates in seen])
    assert not finder.result().diverged


def test_rates_in_tensors_stay_tensors() -> None:
    made = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=torch.tensor(0.1))
    rate = made.param_groups[0]["lr"]
    LearningRateFinder(made, low=1e-4, high=1.0)
    assert made.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(1e-4)


def test_it_is_least_between_the_curvature_and_divergence() -> None:
    """Gradient descent on |w|^2/2 * h: stable below 2/h, and fastest at 1/h."""
    h = 50.0
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    made = torch.optim.SGD([parameter], lr=1.0)
    finder = LearningRateFinder(made, low=1e-5, high=10, steps=200)
    going = True
    while going:
        made.zero_grad()
        loss = 1 + 0.5 * h * parameter.square().sum()
        loss.backward()
        made.step()
        going = finder.step(loss)
    found = finder.result()
    assert found.diverged
    assert 1e-3 < found.suggestion < 2 / h
    assert found.steepest < found.lrs[found.least]


def test_the_steepest_and_the_least_of_a_made_up_curve() -> None:
    lrs = [10 ** (k / 20 - 4) for k in range(81)]
    losses = [2 - math.tanh((math.log10(lr) + 2.5) * 4) + max(math.log10(lr) + 1, 0) ** 2 for lr in lrs]
    found = RangeTest(lrs, losses, False)
    assert math.log10(found.steepest) == pytest.approx(-2.5, abs=0.11)
    assert found.suggestion == pytest.approx(found.lrs[found.least] / 3)
    assert "suggested is" in range_test_plot(found, "x")


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(loss: float) -> None:
    finder = LearningRateFinder(optimizer(0.1))
    assert finder.step(1.0)
    assert not finder.step(loss)
    assert not finder.step(1.0)
    with pytest.raises(DivergenceError, match="begin the range lower than 1e-06"):
        finder.result()


def test_a_loss_that_only_grows_suggests_nothing() -> None:
    finder = LearningRateFinder(optimizer(0.1), low=1.0, high=10.0)
    assert all(finder.step(1 + 0.01 * k) for k in range(FEWEST))
    with pytest.raises(DivergenceError, match="begin the range lower than 1$"):
        finder.result()


@pytest.mark.parametrize("options", [{"low": 0}, {"high": -1}, {"low": 2, "high": 1}, {"steps": 3}])
def test_bad_ranges_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        LearningRateFinder(optimizer(0.1), **options)  # type: ignore[arg-type]


def test_a_task_gives_the_same_test_again_and_a_usable_rate() -> None:
    found, again = (cf.suggest_lr("adam", "logistic-digits", steps=60, starts=2) for _ in range(2))
    assert list(found.losses) == list(again.losses)
    assert 1e-3 < found.suggestion < 0.5


def test_rules_with_a_schedule_and_other_peoples_optimizers() -> None:
    assert 0.05 < cf.suggest_lr("cf1", "mlp-digits", steps=60, starts=1).suggestion < 10
    theirs = cf.suggest_lr(lambda params: torch.optim.SGD(params, lr=1.0), "logistic-digits", steps=60, starts=1)
    assert 0.01 < theirs.suggestion < 10


def test_the_command_prints_it_and_draws_it(tmp_path: Path) -> None:
    runner, short = CliRunner(), ["--steps", "40", "--starts", "1", "--task", "logistic-digits"]
    out = tmp_path / "a.svg"
    done = runner.invoke(app, ["suggest-lr", "torch.optim:SGD", "--opt", "momentum=0.9", *short, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "suggested learning rate: " in done.output
    assert out.read_text().startswith("<svg")
    found = json.loads(runner.invoke(app, ["suggest-lr", "adam", *short, "--out", str(out), "--json"]).output)
    assert found["suggestion"] == pytest.approx(found["least_loss_at"] / 3)
    done = runner.invoke(app, ["suggest-lr", "rp", *short])
    assert done.exit_code == 2
    assert "is a network, which has no learning rate" in done.output
