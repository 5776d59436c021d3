"""K optimizees side by side, and K optimizers with meta-parameters of their own, are what a loop over them gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from closedform.learned_optimizers import (
    LEARNED_OPTIMIZERS,
    LearnedOptimizer,
    State,
    SymbolicOptimizer,
    UpdateFunction,
    get,
)
from closedform.rules import load_rule

K, SHAPES = 3, ((4, 3), (5,), (2, 3, 2), ())
N = 12 + 5 + 12 + 1
STEPS = 4
MEMBERS: dict[str, Callable[[], LearnedOptimizer]] = {
    **{name: lambda name=name: get(name) for name in LEARNED_OPTIMIZERS},
    **{f"rule {name}": lambda name=name: SymbolicOptimizer(load_rule(name)) for name in ("adam", "lamb", "lion")},
}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["single", "double"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=MEMBERS)
def l2o(request: pytest.FixtureRequest, generator: torch.Generator, dtype: torch.dtype) -> LearnedOptimizer:
    """A member that does not stand still."""
    l2o = MEMBERS[request.param]().to(dtype)
    with torch.no_grad():
        for parameter in l2o.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=0.3)
    return l2o


def _stack(states: list[State]) -> State:
    return {key: torch.stack([state[key] for state in states]) for key in states[0]}


def _assert_close(found: Tensor, expected: Tensor, rounding: float) -> None:
    """Equal but for so many roundings, of single numbers and of the largest that they are sums of."""
    tolerance = rounding * torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest)


def _assert_equal(step: UpdateFunction, alone: list[UpdateFunction], l2o: LearnedOptimizer, inputs: Tensor) -> None:
    w = inputs[0]
    states = [l2o.init_state(row, SHAPES, 10) for row in w]
    together = _stack(states)
    for g in inputs[1:]:
        updates, together = step(g, w, together)
        results = [one(*rows) for one, *rows in zip(alone, g, w, states, strict=True)]
        _assert_close(updates, torch.stack([update for update, _ in results]), 80)
        states = [state for _, state in results]
        expected = _stack(states)
        assert together.keys() == expected.keys()
        for key, value in expected.items():
            _assert_close(together[key], value, 80)


def _inputs(generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return torch.randn(1 + STEPS, K, N, generator=generator).to(dtype)


@torch.no_grad()
def test_side_by_side(l2o: LearnedOptimizer, generator: torch.Generator, dtype: torch.dtype) -> None:
    own = {name: value.detach().expand(K, *value.shape) for name, value in l2o.named_parameters()}
    _assert_equal(l2o.bind_stacked(own), [l2o.bind()] * K, l2o, _inputs(generator, dtype))


@torch.no_grad()
@pytest.mark.parametrize("kept", [slice(None), slice(1)], ids=["all", "the rest frozen"])
def test_stacked_meta_parameters(
    l2o: LearnedOptimizer, generator: torch.Generator, dtype: torch.dtype, kept: slice
) -> None:
    noise = {
        name: 0.1 * torch.randn(K, *value.shape, generator=generator, dtype=value.dtype)
        for name, value in list(l2o.named_parameters())[kept]
    }
    own = {name: value.detach() for name, value in l2o.named_parameters()}
    stacked = {name: own[name] + value for name, value in noise.items()}

    def alone(row: int) -> UpdateFunction:
        parameters = {name: value[row] for name, value in stacked.items()}
        return lambda g, w, state: torch.func.functional_call(l2o, parameters, (g, w, state))

    _assert_equal(l2o.bind_stacked(stacked), [alone(row) for row in range(K)], l2o, _inputs(generator, dtype))


def test_gradients_through_stacked_meta_parameters(
    l2o: LearnedOptimizer, generator: torch.Generator, dtype: torch.dtype
) -> None:
    stacked = {name: value.detach().expand(K, *value.shape).clone() for name, value in l2o.named_parameters()}
    for value in stacked.values():
        value.requires_grad_()
    g, w = _inputs(generator, dtype)[:2]
    update, _ = l2o.bind_stacked(stacked)(g, w, _stack([l2o.init_state(row, SHAPES, 10) for row in w]))
    together = torch.autograd.grad(update.sum(), list(stacked.values()))
    for row in range(K):
        alone = l2o.update(g[row], w[row], l2o.init_state(w[row], SHAPES, 10))[0].sum()
        expected = torch.autograd.grad(alone, list(l2o.parameters()))
        for ours, theirs in zip(together, expected, strict=True):
            _assert_close(ours[row], theirs, 800)
