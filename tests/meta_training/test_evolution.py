"""Evolution strategies against closed forms: gradient descent on a quadratic (see test_meta_gradients.py).

By c, w_s = (1 - c h)^s w_0 has the derivative -s h (1 - c h)^(s-1) w_0; with the start w_r of a window taken as given,
-(s - r) h (1 - c h)^(s-1) w_0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from bowl import Bowl, GradientDescent
from torch import Tensor

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get
from closedform.meta_training import PES, AntitheticES, Estimator, Problem, ProblemBatch, begin, run
from closedform.meta_training._meta_parameters import gradients, moved, perturbations
from closedform.meta_training._objectives import OBJECTIVES
from closedform.rules import library_names, load_rule
from closedform.unroll._seeds import window_generator

C, HORIZON, UNROLL = 0.13, 12, 3
SAMPLES = 16


def _closed_form(truncated: bool) -> float:
    """d/dc of the mean over windows of a window's mean loss."""
    h, w0 = Bowl().h, 1 + torch.arange(4, dtype=torch.float64)
    s = torch.arange(1, HORIZON + 1, dtype=torch.float64)[:, None]
    since = s - (s - 1) // UNROLL * UNROLL if truncated else s
    path = (1 - C * h) ** s * w0
    return float((h * path * (-since * h * (1 - C * h) ** (s - 1) * w0)).sum() / HORIZON)


def _whole_episode(estimator: Estimator, seed: int) -> float:
    """The sum of an episode's estimates, made that of the mean loss."""
    optimizer, problem = GradientDescent(C), Problem(Bowl())
    carry = begin(optimizer, problem, torch.Generator().manual_seed(seed))
    carry, total = estimator.start(optimizer, carry), 0.0
    for _ in range(HORIZON // UNROLL):
        estimate = estimator.estimate(optimizer, problem, carry, UNROLL, OBJECTIVES["mean"])
        total, carry = total + estimate.gradients[0].item(), estimate.carry
    return total * UNROLL / HORIZON


def _interval(estimator: Estimator) -> tuple[float, float]:
    """Mean over independent episodes, and four standard errors of it."""
    values = torch.tensor([_whole_episode(estimator, seed) for seed in range(SAMPLES)], dtype=torch.float64)
    return values.mean().item(), 4 * values.std().item() / SAMPLES**0.5


def test_pes_is_unbiased_over_the_whole_horizon() -> None:
    mean, width = _interval(PES(UNROLL, std=1e-3, pairs=2000))
    exact, truncated = _closed_form(truncated=False), _closed_form(truncated=True)
    assert abs(mean - exact) < width < 0.1 * abs(exact)
    assert abs(mean - truncated) > 3 * width


def test_truncated_evolution_strategies_are_biased_there() -> None:
    mean, width = _interval(AntitheticES(UNROLL, std=1e-3, pairs=2000))
    exact, truncated = _closed_form(truncated=False), _closed_form(truncated=True)
    assert abs(mean - truncated) < width < 0.1 * abs(truncated)
    assert abs(mean - exact) > 3 * width


def _network(name: str) -> LearnedOptimizer:
    optimizer = get(name, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in optimizer.parameters():
            parameter += 0.1
    return optimizer


OPTIMIZERS: dict[str, Callable[[], LearnedOptimizer]] = {
    "rp-s": lambda: _network("rp-s"),
    "mlp": lambda: _network("mlp"),
    "adam": lambda: SymbolicOptimizer(load_rule("adam")),
    "lamb": lambda: SymbolicOptimizer(load_rule("lamb")),
}


def _one_by_one(optimizer: LearnedOptimizer, noise: Tensor, problem: Problem, start: Callable, unroll: int) -> Tensor:
    """Each perturbed copy of the optimizer alone, from the same start on the same batches: values, [R]."""
    values = []
    for number in range(len(noise)):
        copied = copy.deepcopy(optimizer)
        copied.load_state_dict({key: value[number] for key, value in moved(optimizer, noise).items()})
        losses, _ = run(copied, problem, start(), unroll)
        values.append(OBJECTIVES["mean"](losses, losses[0]).mean())
    return torch.stack(values).double()


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_run_as_they_would_alone(name: str, rows: int | None) -> None:
    optimizer, task = OPTIMIZERS[name](), tasks.get("mlp-digits", hidden=(3,), batch_size=8).to(dtype=torch.float64)
    problem = ProblemBatch(task) if rows else Problem(task)
    pairs, unroll = 2, 4

    def start():
        generators = tuple(torch.Generator().manual_seed(row) for row in range(rows or 1))
        return begin(optimizer, problem, generators if rows else generators[0])

    noise = perturbations(optimizer, pairs, 0.05, window_generator(start()))
    up, down = _one_by_one(optimizer, torch.cat([noise, -noise]), problem, start, unroll).chunk(2)
    expected = gradients(optimizer, (up - down) @ noise / (2 * 0.05**2 * pairs))
    assert (up - down).abs().min() > 1e-6
    for estimator in (AntitheticES(unroll, 0.05, pairs), PES(unroll, 0.05, pairs)):
        carry = estimator.start(optimizer, start())
        estimate = estimator.estimate(optimizer, problem, carry, unroll, OBJECTIVES["mean"])
        for ours, theirs in zip(estimate.gradients, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
        assert estimate.carry.step == unroll
    _, after = run(optimizer, problem, start(), unroll)
    moved_on = AntitheticES(unroll).estimate(optimizer, problem, start(), unroll, OBJECTIVES["mean"]).carry
    torch.testing.assert_close(moved_on.w, after.w)
    assert moved_on.state.keys() == after.state.keys()
    assert all(moved_on.state[key].shape == value.shape for key, value in after.state.items())


@pytest.mark.parametrize("name", library_names())
def test_every_rule_in_single_precision(name: str) -> None:
    """The unperturbed copy is the optimizer alone, in values and types."""
    optimizer, problem = SymbolicOptimizer(load_rule(name)), Problem(tasks.get("quadratic"))
    _, alone = run(optimizer, problem, begin(optimizer, problem, torch.Generator().manual_seed(0)), 3)
    carry = begin(optimizer, problem, torch.Generator().manual_seed(0))
    among = AntitheticES(3).estimate(optimizer, problem, carry, 3, OBJECTIVES["log"]).carry
    for one, other in zip((among.w, *among.state.values()), (alone.w, *alone.state.values()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("make", [AntitheticES, PES])
def test_options_are_checked(make: Callable[..., Estimator]) -> None:
    for options in ({"unroll": 0}, {"std": 0.0}, {"pairs": 0}, {"std": float("inf")}):
        with pytest.raises(OptionError, match=next(iter(options))):
            make(**options)
