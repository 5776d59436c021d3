"""LASSO: its exact minimum against scikit-learn's, the conditions of optimality, and what is known of its instances."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from closedform import tasks
from closedform.errors import OptionError
from closedform.tasks import _lasso
from closedform.tasks._lasso import Lasso, lasso_solution


def lasso(**options: Any) -> Lasso:
    task = tasks.get("lasso", **options).to(dtype=torch.float64)
    assert isinstance(task, Lasso)
    return task


CASES: list[dict[str, Any]] = [
    {},
    {"seed": 1},
    {"penalty": 0.1, "seed": 2},
    {"rows": 5, "dim": 10, "nonzeros": 2},
    {"rows": 60, "dim": 20, "noise": 0.5, "seed": 3},
    {"nonzeros": 0, "noise": 1.0},
    {"rows": 1, "dim": 1, "nonzeros": 1},
]


@pytest.mark.parametrize("options", CASES)
def test_minimum_is_scikit_learns(options: dict[str, Any]) -> None:
    from sklearn.linear_model import Lasso as Reference

    task = lasso(**options)
    rows = task.options.rows  # scikit-learn divides the squared error by 2 rows
    reference = Reference(alpha=task.options.penalty / rows, fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    fitted = torch.as_tensor(reference.fit(task.matrix.numpy(), task.target.numpy()).coef_)
    assert task.optimum == pytest.approx(float(task.loss({"w": fitted}, ())), rel=1e-9)
    torch.testing.assert_close(task.solution, fitted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", CASES)
def test_minimum_meets_the_conditions_of_optimality(options: dict[str, Any]) -> None:
    task = lasso(**options)
    slope = task.matrix.T @ (task.target - task.matrix @ task.solution)
    assert float(slope.abs().max()) <= task.options.penalty * (1 + 1e-9)
    used = task.solution != 0
    torch.testing.assert_close(slope[used], task.options.penalty * task.solution[used].sign(), rtol=1e-9, atol=0)


def test_nothing_near_the_minimum_is_lower(generator: torch.Generator) -> None:
    task = lasso()
    assert task.optimum == float(task.loss({"w": task.solution}, ()))
    for scale in (1e-3, 1e-1, 1.0):
        steps = torch.randn(200, 50, generator=generator, dtype=torch.float64) * scale
        assert all(float(task.loss({"w": task.solution + step}, ())) > task.optimum for step in steps)


def test_strong_penalty_makes_everything_zero() -> None:
    task = lasso(penalty=100.0)
    assert task.solution.abs().max() == 0
    assert task.optimum == pytest.approx(float(0.5 * task.target.square().sum()))


def test_little_noise_and_enough_rows_recover_the_true_parameters() -> None:
    task = lasso(rows=100, noise=0.001)
    assert int((task.truth != 0).sum()) == 5
    assert torch.equal(task.solution != 0, task.truth != 0)
    torch.testing.assert_close(task.solution, task.truth, rtol=0, atol=0.02)


def test_instance_comes_from_its_seed_alone() -> None:
    assert torch.equal(lasso(seed=3).matrix, lasso(seed=3).matrix)
    assert not torch.equal(lasso(seed=3).matrix, lasso(seed=4).matrix)
    torch.testing.assert_close(lasso().matrix.norm(dim=0), torch.ones(50, dtype=torch.float64))
    assert tasks.get("lasso").optimum == pytest.approx(lasso().optimum, rel=1e-12)


def test_equal_columns_share_their_weight() -> None:
    column = torch.tensor([[1.0], [2.0], [2.0]], dtype=torch.float64) / 3
    target = torch.ones(3, dtype=torch.float64)
    single, both = (lasso_solution(column.expand(3, n).contiguous(), target, 0.1) for n in (1, 2))
    assert single.item() == pytest.approx(5 / 3 - 0.1, rel=1e-12)
    assert both.sum().item() == pytest.approx(single.item(), rel=1e-12)


def test_instance_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lasso, "_ROUNDS", 0)
    with pytest.raises(OptionError, match="degenerate: no exact minimum was found; choose another seed"):
        _ = lasso().optimum
