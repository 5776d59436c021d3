"""Meta-gradients against closed forms, finite differences and plain autograd.

On l(w) = sum_i h_i w_i^2 / 2, the optimizer u = -c g gives w_s = (1 - c h)^s w_0. With l_s = l(w_s), s = 1 .. K:

    total derivative      d/dc sum_s l_s = sum_s h w_s * (-s h (1 - c h)^(s-1) w_0)
    with detached inputs  w_s = w_0 - c sum_{r < s} g_r, g_r = h w_r;  so it is  -sum_s <g_s, sum_{r < s} g_r>
"""

from __future__ import annotations

import pytest
import torch
from bowl import CURVATURES, Bowl, GradientDescent
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get
from closedform.meta_training import Problem, TruncatedBPTT, begin, steps
from closedform.meta_training._objectives import OBJECTIVES
from closedform.rules import load_rule
from closedform.tasks import Task

K, C = 12, 0.13


def _gradient(optimizer: LearnedOptimizer, task: Task, estimator: TruncatedBPTT, objective: str = "mean") -> tuple:
    problem = Problem(task)
    carry = begin(optimizer, problem, torch.Generator().manual_seed(3))
    estimate = estimator.estimate(optimizer, problem, carry, K, OBJECTIVES[objective])
    return estimate.value, estimate.gradients


@pytest.mark.parametrize("curvatures", [(1.0, 2.0), CURVATURES])
def test_total_derivative_is_the_closed_form(curvatures: tuple[float, ...]) -> None:
    task = Bowl(curvatures)
    h, w0 = task.h, 1 + torch.arange(len(curvatures), dtype=torch.float64)
    s = torch.arange(1, K + 1, dtype=torch.float64)[:, None]
    path = (1 - C * h) ** s * w0
    expected_value = (0.5 * h * path**2).sum(1).mean()
    expected = (h * path * (-s * h * (1 - C * h) ** (s - 1) * w0)).sum() / K
    value, (gradient,) = _gradient(GradientDescent(C), task, TruncatedBPTT(K, second_order=True))
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-12)
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("curvatures", [(1.0, 2.0), CURVATURES])
def test_detached_derivative_is_the_closed_form(curvatures: tuple[float, ...]) -> None:
    task = Bowl(curvatures)
    h, w0 = task.h, 1 + torch.arange(len(curvatures), dtype=torch.float64)
    g = h * (1 - C * h) ** torch.arange(K + 1, dtype=torch.float64)[:, None] * w0
    expected = -sum((g[s] * g[:s].sum(0)).sum() for s in range(1, K + 1)) / K
    value, (gradient,) = _gradient(GradientDescent(C), task, TruncatedBPTT(K))
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-10)
    assert value.item() == pytest.approx((0.5 * g[1:] ** 2 / h).sum(1).mean().item(), rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("make", [lambda: GradientDescent(C), lambda: SymbolicOptimizer(load_rule("adam"))])
def test_total_derivative_by_finite_differences(make: object, objective: str) -> None:
    task, step = Bowl(noise=0.1), 1e-5
    _, gradients = _gradient(make(), task, TruncatedBPTT(K, second_order=True), objective)
    (gradient,) = gradients
    for index in range(gradient.numel()):
        values = []
        for sign in (1, -1):
            moved = make()
            with torch.no_grad():
                next(moved.parameters()).view(-1)[index] += sign * step
            values.append(_gradient(moved, task, TruncatedBPTT(K), objective)[0])
        difference = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(gradient.reshape(-1)[index], difference, rtol=1e-5, atol=1e-8)


def _autograd_with_detached_inputs(optimizer: LearnedOptimizer, task: Bowl, objective: str) -> tuple[Tensor, ...]:
    """The same by the book: one graph from the meta-parameters through all w to the losses."""
    generator = torch.Generator().manual_seed(3)
    w = torch.cat(list(task.init(generator).values()))
    state, losses = optimizer.init_state(w, (1, len(w) - 1)), []
    for _ in range(K + 1):
        batch = task.batch("train", generator)
        losses.append(task.loss({"a": w[:1], "b": w[1:]}, batch))
        point = w.detach().requires_grad_()
        (g,) = torch.autograd.grad(task.loss({"a": point[:1], "b": point[1:]}, batch), point)
        update, state = optimizer.update(g, w.detach(), state)
        w = w + update
    value = OBJECTIVES[objective](torch.stack(losses[1:]), losses[0])
    return torch.autograd.grad(value, list(optimizer.parameters()))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["rp-si", "rp", "adam", "adamw", "lamb"])
def test_suffix_sums_equal_autograd(name: str, objective: str) -> None:
    task = Bowl(noise=0.3)
    if name.startswith("rp"):
        optimizer = get(name, generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            optimizer.output_weight += 0.3
    else:
        optimizer = SymbolicOptimizer(load_rule(name))
    _, gradients = _gradient(optimizer, task, TruncatedBPTT(K), objective)
    expected = _autograd_with_detached_inputs(optimizer, task, objective)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("second_order", [False, True])
def test_random_scaling_changes_variables(second_order: bool) -> None:
    """f(c * w) started at w_0 / c, with gradient descent: the same as curvatures c^2 h started at w_0 / c."""
    scale = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    optimizer, task = GradientDescent(0.02), Bowl()
    problem = Problem(task, scale=scale)
    carry = begin(optimizer, problem, torch.Generator())
    start = (1 + torch.arange(4, dtype=torch.float64)) / scale
    torch.testing.assert_close(carry.w, start)
    estimate = TruncatedBPTT(K, second_order).estimate(optimizer, problem, carry, K, OBJECTIVES["mean"])
    path = (1 - 0.02 * scale**2 * task.h) ** torch.arange(1, K + 1, dtype=torch.float64)[:, None] * start
    torch.testing.assert_close(estimate.losses, (0.5 * task.h * (scale * path) ** 2).sum(1))


def test_windows_join_up() -> None:
    """Two windows of K/2 are one of K, run for run; and the carry between them has no graph."""
    optimizer, problem = SymbolicOptimizer(load_rule("adam")), Problem(Bowl(noise=0.2))
    carry = begin(optimizer, problem, torch.Generator().manual_seed(1))
    whole = [step.after.loss.item() for step in steps(optimizer, problem, carry, K)]
    carry = begin(optimizer, problem, torch.Generator().manual_seed(1))
    joined: list[float] = []
    for _ in range(2):
        estimate = TruncatedBPTT(K // 2).estimate(optimizer, problem, carry, K // 2, OBJECTIVES["mean"])
        joined += estimate.losses.tolist()
        carry = estimate.carry
        assert not any(tensor.requires_grad for tensor in (carry.w, carry.loss, *carry.state.values()))
    assert joined == whole
    assert carry.step == K
