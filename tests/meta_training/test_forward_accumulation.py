"""Forward accumulation against backpropagation through the whole horizon."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get
from closedform.meta_training import Estimator, ForwardAccumulation, Problem, ProblemBatch, TruncatedBPTT, begin
from closedform.meta_training._objectives import OBJECTIVES
from closedform.rules import library_names, load_rule
from closedform.unroll._unroll import Carry

HORIZON, UNROLL = 12, 4


def _network() -> LearnedOptimizer:
    optimizer = get("rp-s", generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        optimizer.output_weight += 0.3
    return optimizer


def _optimizer(name: str) -> LearnedOptimizer:
    return _network() if name == "rp-s" else SymbolicOptimizer(load_rule(name))


def _task(dtype: torch.dtype = torch.float64) -> tasks.Task:
    return tasks.get("mlp-digits", hidden=(2,), batch_size=8).to(dtype=dtype)


def _start(
    optimizer: LearnedOptimizer, problem: Problem, estimator: Estimator | None = None, rows: int | None = None
) -> Carry:
    generators = tuple(torch.Generator().manual_seed(5 + row) for row in range(rows or 1))
    carry = begin(optimizer, problem, generators if rows else generators[0])
    return estimator.start(optimizer, carry) if estimator else carry


def _accumulated(
    optimizer: LearnedOptimizer, problem: Problem, estimator: ForwardAccumulation, carry: Carry, objective: str
) -> list[Tensor]:
    total = [torch.zeros_like(parameter) for parameter in optimizer.parameters()]
    for _ in range(HORIZON // UNROLL):
        estimate = estimator.estimate(optimizer, problem, carry, UNROLL, OBJECTIVES[objective])
        total = [one + gradient for one, gradient in zip(total, estimate.gradients, strict=True)]
        carry = estimate.carry
    return [one * UNROLL / HORIZON for one in total]


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("name", ["adam", "lion", "adabelief", "lamb", "rp-s"])
def test_is_backpropagation_through_the_whole_horizon(name: str, rows: int | None) -> None:
    optimizer, task, estimator = _optimizer(name), _task(), ForwardAccumulation(UNROLL)
    scale = 0.5 + torch.rand((rows or 1, task.size), generator=torch.Generator().manual_seed(1)).double()
    problem = ProblemBatch(task, scale=scale) if rows else Problem(task, scale=scale[0])
    ours = _accumulated(optimizer, problem, estimator, _start(optimizer, problem, estimator, rows), "relative")
    carry = _start(optimizer, problem, rows=rows)
    exact = TruncatedBPTT(HORIZON).estimate(optimizer, problem, carry, HORIZON, OBJECTIVES["relative"]).gradients
    assert any(gradient.abs().max() > 1e-6 for gradient in exact)
    for mine, theirs in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", library_names())
def test_every_rule_in_single_precision(name: str) -> None:
    optimizer, problem, estimator = _optimizer(name), Problem(_task(torch.float32)), ForwardAccumulation(UNROLL)
    (ours,) = _accumulated(optimizer, problem, estimator, _start(optimizer, problem, estimator), "mean")
    carry = _start(optimizer, problem)
    exact = TruncatedBPTT(HORIZON).estimate(optimizer, problem, carry, HORIZON, OBJECTIVES["mean"]).gradients[0]
    torch.testing.assert_close(ours, exact, rtol=2e-3, atol=1e-4 * float(exact.abs().max()))


def test_subsets_of_coordinates_average_to_the_whole() -> None:
    """The mean over all subsets of two of four coordinates, drawn once an episode, is the exact meta-gradient."""
    optimizer, problem = _optimizer("adam"), Problem(tasks.get("quadratic", dim=4).to(dtype=torch.float64))
    whole, part = ForwardAccumulation(UNROLL), ForwardAccumulation(UNROLL, coordinates=2)
    (exact,) = _accumulated(optimizer, problem, whole, _start(optimizer, problem, whole), "log")
    parts = []
    for pair in itertools.combinations(range(4), 2):
        carry = _start(optimizer, problem, part)
        assert carry.memory["moved"].shape == (optimizer.coordinates.numel(), 2)
        carry = replace(carry, memory={**carry.memory, "places": torch.tensor(pair)})
        parts += _accumulated(optimizer, problem, part, carry, "log")
    assert len({tuple(gradient.tolist()) for gradient in parts}) == 6
    torch.testing.assert_close(torch.stack(parts).mean(0), exact, rtol=1e-9, atol=1e-12)


def _peak_bytes(optimizer: LearnedOptimizer, estimator: Estimator, count: int) -> int:
    """Most memory that a window had in use at once, beyond what was there before, as torch's allocator counts it."""
    problem = Problem(_task(torch.float32))
    carry = _start(optimizer, problem, estimator)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        estimator.estimate(optimizer, problem, carry, count, OBJECTIVES["mean"])
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def test_memory_does_not_grow_with_the_unroll() -> None:
    optimizer = _optimizer("adam")
    short, long = (_peak_bytes(optimizer, ForwardAccumulation(), count) for count in (10, 50))
    assert long < 1.1 * short
    short, long = (_peak_bytes(optimizer, TruncatedBPTT(), count) for count in (10, 50))
    assert long > 4 * short


def test_large_models_are_refused() -> None:
    with pytest.raises(OptionError, match=r"up to 1,000 meta-parameters and 'rp' has .*: use truncated-bptt or pes"):
        ForwardAccumulation().check(get("rp"))
    with pytest.raises(OptionError, match="coordinates needs"):
        ForwardAccumulation(coordinates=5).check(_optimizer("lamb"))
