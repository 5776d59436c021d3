"""The native forward pass of recurrent networks, in lockstep with torch; and when torch has to do it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from closedform.learned_optimizers import (
    LEARNED_OPTIMIZERS,
    RecurrentOptimizer,
    State,
    UpdateFunction,
    _native_lstm,
    get,
)
from closedform.learned_optimizers._native_lstm import Forward, kernel

RECURRENT = [name for name in LEARNED_OPTIMIZERS if isinstance(get(name), RecurrentOptimizer)]


def awake(name: str, generator: torch.Generator) -> RecurrentOptimizer:
    """A network with an output layer that is not zero."""
    l2o = get(name, generator=generator)
    with torch.no_grad():
        l2o.output_weight.normal_(generator=generator)
        l2o.output_bias.fill_(0.1)
    return l2o


@pytest.fixture(params=RECURRENT)
def l2o(request: pytest.FixtureRequest, generator: torch.Generator) -> RecurrentOptimizer:
    return awake(request.param, generator)


@pytest.fixture
def only_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[RecurrentOptimizer], UpdateFunction]:
    """Binds a network without native code."""

    def bind(l2o: RecurrentOptimizer) -> UpdateFunction:
        with monkeypatch.context() as patch:
            patch.setattr(type(l2o), "native_shape", lambda self: None)
            return l2o.bind()

    return bind


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Forward]]:
    """Grows by one entry with every native step."""
    if kernel(get("rp-s").native_shape()) is None:
        pytest.skip("there is no C compiler")
    seen: list[Forward] = []
    own = Forward.__call__

    def counted(self: Forward, *args: object) -> tuple[Tensor, State]:
        seen.append(self)
        return own(self, *args)

    monkeypatch.setattr(Forward, "__call__", counted)
    return seen


def _gradients(steps: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Of all sizes, some zero, as a run of many layers gives them; correlated in time."""
    size = 10 ** torch.empty(count).uniform_(-7, 1, generator=generator)
    size[::17] = 0
    g = torch.randn(count, generator=generator)
    for _ in range(steps):
        g = 0.9 * g + 0.4 * torch.randn(count, generator=generator)
        yield g * size


def _distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a part of the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@torch.no_grad()
def test_two_hundred_steps_in_lockstep(
    l2o: RecurrentOptimizer, only_torch: Callable, generator: torch.Generator, calls: list
) -> None:
    """As near to what double precision gives as torch is, within 1e-5."""
    w = torch.zeros(301)
    exact = only_torch(copy.deepcopy(l2o).double())
    steps = l2o.bind(), only_torch(l2o)
    ours = theirs = l2o.init_state(w)
    truth = {key: value.double() for key, value in ours.items()}
    for g in _gradients(200, len(w), generator):
        update, ours = steps[0](g, w, ours)
        expected, theirs = steps[1](g, w, theirs)
        true, truth = exact(g.double(), w.double(), truth)
        assert _distance(update, true) <= 1e-5 + _distance(expected, true)
        assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert _distance(ours[key], truth[key]) <= 1e-5 + _distance(value, truth[key])
    assert len(calls) == 200


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 15, 64, 127, 128, 129, 300])
def test_blocks_and_rests(count: int, only_torch: Callable, generator: torch.Generator) -> None:
    """Every parameter gets what it would get alone, wherever it stands."""
    l2o = awake("rp", generator)
    w = torch.zeros(count)
    state = l2o.init_state(w)
    for g in _gradients(3, count, generator):
        update, after = l2o.bind()(g, w, state)
        expected, _ = only_torch(l2o)(g, w, state)
        torch.testing.assert_close(update, expected, rtol=1e-4, atol=1e-6)
        state = after


@torch.no_grad()
def test_threads_do_not_change_a_bit(generator: torch.Generator) -> None:
    l2o = awake("rp-s", generator)
    g = torch.randn(70_001, generator=generator)
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(l2o.update(g, g, l2o.init_state(g)))
    finally:
        torch.set_num_threads(1)
    (one, states), (two, again) = results
    assert torch.equal(one, two)
    assert all(torch.equal(states[key], again[key]) for key in states)


@torch.no_grad()
def test_nan_stays_with_its_parameter(
    l2o: RecurrentOptimizer, only_torch: Callable, generator: torch.Generator
) -> None:
    for (
        parameter
    ) in l2o.parameters():  # no weight is exactly 0: 0 * infinity would be NaN, or not, by the order of sums
        parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    w = torch.zeros(200)
    g = torch.randn(200, generator=generator)
    g[3], g[150], g[7] = torch.nan, torch.inf, -torch.inf
    ours = theirs = l2o.init_state(w)
    for _ in range(3):
        update, ours = l2o.bind()(g, w, ours)
        expected, theirs = only_torch(l2o)(g, w, theirs)
        torch.testing.assert_close(update, expected, rtol=1e-4, atol=1e-6, equal_nan=True)
        assert bool(update[3].isnan())
        g = torch.randn(200, generator=generator)


@torch.no_grad()
def test_optimizees_at_different_steps(only_torch: Callable, generator: torch.Generator, calls: list) -> None:
    l2o = awake("rp-si", generator)
    w = torch.zeros(3, 40)
    states = []
    for row, steps in zip(w, (0, 2, 5), strict=True):
        state = l2o.init_state(row)
        for g in _gradients(steps, 40, generator):
            _, state = l2o.bind()(g, row, state)
        states.append(state)
    calls.clear()
    stacked = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    g = torch.randn(3, 40, generator=generator)
    own = {name: value.detach().expand(3, *value.shape) for name, value in l2o.named_parameters()}
    updates, _ = l2o.bind_stacked(own)(g, w, stacked)
    assert len(calls) == 1
    for row in range(3):
        expected, _ = only_torch(l2o)(g[row], w[row], states[row])
        torch.testing.assert_close(updates[row], expected, rtol=1e-4, atol=1e-6)


def test_torch_does_it_where_a_graph_is_asked_for(l2o: RecurrentOptimizer, calls: list) -> None:
    w = torch.linspace(-1, 1, 9)
    state = l2o.init_state(w)
    update, _ = l2o.update(w, w, state)
    assert update.requires_grad
    assert not calls
    for parameter in l2o.parameters():
        parameter.requires_grad_(False)
    l2o.update(w, w, state)
    assert len(calls) == 1
    update, _ = l2o.update(w.clone().requires_grad_(), w, state)
    assert update.requires_grad
    with torch.no_grad():
        torch.func.vmap(l2o.update)(w[None], w[None], {key: value[None] for key, value in state.items()})
        l2o.double().update(w.double(), w.double(), l2o.init_state(w.double()))
    assert len(calls) == 1


def test_forward_derivatives_are_not_lost(generator: torch.Generator) -> None:
    l2o = awake("dm-raw", generator).requires_grad_(False)
    w = torch.linspace(-1, 1, 9)
    with forward_ad.dual_level():
        update, _ = l2o.update(forward_ad.make_dual(w, torch.ones(9)), w, l2o.init_state(w))
        assert bool(forward_ad.unpack_dual(update).tangent.abs().sum() > 0)


@torch.no_grad()
def test_no_compiler(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setattr(_native_lstm, "kernel", kernel.__wrapped__)
    l2o = awake("rp-s", generator)
    assert kernel.__wrapped__(l2o.native_shape()) is None
    g = torch.linspace(-1, 1, 9)
    assert bool(l2o.update(g, g, l2o.init_state(g))[0].any())
