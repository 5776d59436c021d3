"""K optimizees side by side do what each does alone; a gradient through a subset of coordinates is unbiased."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get
from closedform.meta_training import Problem, ProblemBatch, TruncatedBPTT, begin, steps
from closedform.meta_training._objectives import OBJECTIVES
from closedform.meta_training.estimators._window import Subset, draw_subset, run_window
from closedform.rules import load_rule

K, T = 3, 5
TASKS: dict[str, dict] = {
    "quadratic": {"dim": 5},
    "mlp-digits": {"hidden": (4,), "batch_size": 8},
    "autoencoder-digits": {},
    "transformer-python": {"width": 8, "window": 6, "batch_size": 2, "heads": 2},
}


def _generators(first: int = 0) -> tuple[torch.Generator, ...]:
    return tuple(torch.Generator().manual_seed(first + row) for row in range(K))


def _network(name: str = "rp-s") -> LearnedOptimizer:
    optimizer = get(name, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for parameter in optimizer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    return optimizer


def _scale(task: tasks.Task) -> torch.Tensor:
    return (0.5 + torch.rand(K, task.size, generator=torch.Generator().manual_seed(9))).to(task.dtype)


OPTIMIZERS: dict[str, Callable[[], LearnedOptimizer]] = {
    "rp-s": _network,
    "mlp": lambda: _network("mlp"),
    "adam": lambda: SymbolicOptimizer(load_rule("adam")),
    "lamb": lambda: SymbolicOptimizer(load_rule("lamb")),
}


@pytest.mark.parametrize("name", TASKS)
def test_losses_and_gradients_are_those_of_each_alone(name: str) -> None:
    task = tasks.get(name, **TASKS[name]).to(dtype=torch.float64)
    if task.available() is not None:
        pytest.skip(str(task.available()))
    scale = _scale(task)
    batch = ProblemBatch(task, scale=scale)
    for problem in (batch, batch.differentiable()):
        generators = _generators()
        w = problem.start(generators)
        losses, gradients = problem.loss_and_grad(w, generators)
        for row, generator in enumerate(_generators()):
            alone = Problem(task, scale=scale[row])
            loss, gradient = alone.loss_and_grad(alone.start(generator), generator)
            torch.testing.assert_close(losses[row].detach(), loss)
            torch.testing.assert_close(gradients[row].detach(), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("second_order", [False, True])
def test_meta_gradients_are_the_mean_over_optimizees(name: str, second_order: bool) -> None:
    task, optimizer = tasks.get("mlp-digits", hidden=(3,), batch_size=8).to(dtype=torch.float64), OPTIMIZERS[name]()
    scale, estimator = _scale(task), TruncatedBPTT(T, second_order)
    problem = ProblemBatch(task, scale=scale)
    carry, alone = begin(optimizer, problem, _generators()), []
    for row, generator in enumerate(_generators()):
        one = Problem(task, scale=scale[row])
        alone.append((one, begin(optimizer, one, generator)))
    for objective in ("relative", "late"):
        together = estimator.estimate(optimizer, problem, carry, T, OBJECTIVES[objective])
        each = [estimator.estimate(optimizer, one, at, T, OBJECTIVES[objective]) for one, at in alone]
        torch.testing.assert_close(together.value, torch.stack([one.value for one in each]).mean())
        torch.testing.assert_close(together.losses, torch.stack([one.losses for one in each], 1))
        torch.testing.assert_close(together.carry.w, torch.stack([one.carry.w for one in each]))
        for index, gradient in enumerate(together.gradients):
            mean = torch.stack([one.gradients[index] for one in each]).mean(0)
            torch.testing.assert_close(gradient, mean, rtol=1e-7, atol=1e-12)
        carry, alone = together.carry, [(one, at.carry) for (one, _), at in zip(alone, each, strict=True)]


@pytest.mark.parametrize("name", ["rp-s", "adam"])
@pytest.mark.parametrize("rows", [None, 2])
def test_subsets_of_coordinates_average_to_the_whole(name: str, rows: int | None) -> None:
    """The mean over all subsets of two of four coordinates is the full meta-gradient."""
    task, optimizer = tasks.get("quadratic", dim=4).to(dtype=torch.float64), OPTIMIZERS[name]()
    problem = Problem(task) if rows is None else ProblemBatch(task)

    def start():
        carry = begin(optimizer, problem, _generators()[0] if rows is None else _generators()[:rows])
        *_, last = steps(optimizer, problem, carry, 2)
        return last.after.detached()

    whole = TruncatedBPTT(T).estimate(optimizer, problem, start(), T, OBJECTIVES["log"])
    pairs = [torch.tensor(pair) for pair in itertools.combinations(range(4), 2)]
    choices = pairs if rows is None else [torch.stack([a, b + 4]) for a in pairs for b in pairs]
    total = [torch.zeros_like(gradient) for gradient in whole.gradients]
    for places in choices:
        window = run_window(optimizer, problem, start(), T, Subset(places, 2.0))
        assert torch.equal(window.losses, whole.losses)
        carry = start()
        part = window.estimate(optimizer, carry.initial, OBJECTIVES["log"])
        torch.testing.assert_close(part.value, whole.value)
        total = [sum_ + gradient / len(choices) for sum_, gradient in zip(total, part.gradients, strict=True)]
    for mean, exact in zip(total, whole.gradients, strict=True):
        torch.testing.assert_close(mean, exact, rtol=1e-9, atol=1e-12)


def test_subset_leaves_the_episode_as_it_is_and_is_drawn_anew_each_window() -> None:
    optimizer, problem = _network(), Problem(tasks.get("mlp-digits", hidden=(3,)).to(dtype=torch.float64))
    carries = [begin(optimizer, problem, torch.Generator().manual_seed(2)) for _ in range(3)]
    gradients = []
    for estimator, carry in zip((TruncatedBPTT(T), *[TruncatedBPTT(T, coordinates=20)] * 2), carries, strict=True):
        first = estimator.estimate(optimizer, problem, carry, T, OBJECTIVES["mean"])
        second = estimator.estimate(optimizer, problem, first.carry, T, OBJECTIVES["mean"])
        gradients.append((first.losses, second.losses, *first.gradients, *second.gradients))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients[1], gradients[2], strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients[0][:2], gradients[1][:2], strict=True))
    assert not torch.equal(gradients[0][2], gradients[1][2])
    subset = draw_subset(carries[0], 20, torch.Generator().manual_seed(0))
    assert len(set(subset.places.tolist())) == 20
    assert subset.factor == problem.task.size / 20


@pytest.mark.parametrize("name", ["lamb", "mlp"])
def test_optimizers_that_look_at_tensors_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"coordinates needs .* '{name}' looks at whole parameter tensors"):
        TruncatedBPTT(T, coordinates=2).check(OPTIMIZERS[name]())


def test_second_order_through_a_subset_is_refused() -> None:
    with pytest.raises(OptionError, match="leave coordinates out"):
        TruncatedBPTT(T, second_order=True, coordinates=2)
