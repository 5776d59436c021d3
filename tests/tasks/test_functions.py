"""Known optima, Hessians and values of the plain functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from closedform import tasks
from closedform.tasks._functions import Quadratic


def quadratic(**options: Any) -> Quadratic:
    task = tasks.get("quadratic", **options).to(dtype=torch.float64)
    assert isinstance(task, Quadratic)
    return task


@pytest.mark.parametrize(("dim", "condition"), [(1, 1.0), (5, 1.0), (10, 100.0), (30, 1e4)])
def test_quadratic_has_the_stated_condition_and_optimum(dim: int, condition: float) -> None:
    task = quadratic(dim=dim, condition=condition)
    hessian = torch.autograd.functional.hessian(lambda w: task.loss({"w": w}, ()), torch.zeros_like(task.solution))
    eigenvalues = torch.linalg.eigvalsh(hessian)
    torch.testing.assert_close(eigenvalues[-1].item(), 1.0)
    torch.testing.assert_close((eigenvalues[-1] / eigenvalues[0]).item(), condition, rtol=1e-8, atol=0)
    loss, grads = task.loss_and_grad({"w": task.solution}, ())
    assert loss.item() == pytest.approx(0.0, abs=1e-25)
    assert grads["w"].abs().max() < 1e-12


def test_quadratic_gradient_is_its_closed_form(generator: torch.Generator) -> None:
    task = quadratic(dim=7)
    params = task.init(generator)
    _, grads = task.loss_and_grad(params, ())
    expected = task.matrix.T @ (task.matrix @ params["w"] - task.target)
    torch.testing.assert_close(grads["w"], expected, rtol=1e-13, atol=1e-15)


def test_quadratic_instance_comes_from_its_seed_alone() -> None:
    assert torch.equal(quadratic(seed=3).matrix, quadratic(seed=3).matrix)
    assert not torch.equal(quadratic(seed=3).matrix, quadratic(seed=4).matrix)
    assert torch.equal(quadratic(seed=3).matrix.float(), tasks.get("quadratic", seed=3).matrix)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "condition"), [("quadratic-10", 10), ("quadratic", 100), ("quadratic-1000", 1000)])
def test_quadratics_are_called_after_their_condition(name: str, condition: float) -> None:
    task = tasks.get(name).to(dtype=torch.float64)
    assert isinstance(task, Quadratic)
    assert float(torch.linalg.cond(task.matrix)) ** 2 == pytest.approx(condition, rel=1e-9)


def test_rastrigin_known_values() -> None:
    task = tasks.get("rastrigin", dim=3).to(dtype=torch.float64)
    assert float(task.loss({"w": torch.zeros(3, dtype=torch.float64)}, ())) == task.optimum == 0.0
    whole = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)  # at whole numbers the cosines are 1
    assert float(task.loss({"w": whole}, ())) == pytest.approx(14.0, rel=1e-13)
    halves = torch.full((3,), 0.5, dtype=torch.float64)  # and between them -1
    assert float(task.loss({"w": halves}, ())) == pytest.approx(3 * (0.25 + 20), rel=1e-13)


def test_rastrigin_starts_within_its_domain_and_has_other_minima(generator: torch.Generator) -> None:
    task = tasks.get("rastrigin").to(dtype=torch.float64)
    starts = torch.stack([task.init(generator)["w"] for _ in range(200)])
    assert -5.12 <= float(starts.min()) < -5
    assert 5 < float(starts.max()) <= 5.12
    near_one = torch.full((10,), 0.99495864, dtype=torch.float64)
    assert task.loss_and_grad({"w": near_one}, ())[1]["w"].abs().max() < 1e-5
    assert float(task.loss({"w": near_one}, ())) > 9


def test_rosenbrock_known_values() -> None:
    task = tasks.get("rosenbrock", dim=4).to(dtype=torch.float64)
    assert task.loss({"w": torch.ones(4, dtype=torch.float64)}, ()).item() == task.optimum == 0.0
    assert task.loss_and_grad({"w": torch.ones(4, dtype=torch.float64)}, ())[1]["w"].abs().max() == 0.0
    assert task.loss({"w": torch.zeros(4, dtype=torch.float64)}, ()).item() == 3.0
    plane = tasks.get("rosenbrock").to(dtype=torch.float64)
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)  # the customary starting point, where the value is 24.2
    assert plane.loss({"w": start}, ()).item() == pytest.approx(24.2, rel=1e-14)


def test_rosenbrock_agrees_with_scipys() -> None:
    from scipy.optimize import rosen, rosen_der

    task = tasks.get("rosenbrock", dim=6).to(dtype=torch.float64)
    params = task.init(torch.Generator().manual_seed(0))
    loss, grads = task.loss_and_grad(params, ())
    assert loss.item() == pytest.approx(rosen(params["w"].numpy()), rel=1e-13)
    torch.testing.assert_close(grads["w"], torch.as_tensor(rosen_der(params["w"].numpy())), rtol=1e-12, atol=1e-10)
