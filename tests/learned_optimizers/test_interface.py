"""What every learned optimizer promises, network or rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from closedform.learned_optimizers import LEARNED_OPTIMIZERS, LearnedOptimizer, SymbolicOptimizer, get
from closedform.rules import library_names, load_rule

MEMBERS: dict[str, Callable[[], LearnedOptimizer]] = {
    **{name: lambda name=name: get(name, generator=torch.Generator().manual_seed(1)) for name in LEARNED_OPTIMIZERS},
    **{f"rule {name}": lambda name=name: SymbolicOptimizer(load_rule(name)) for name in library_names()},
}


@pytest.fixture(params=MEMBERS)
def l2o(request: pytest.FixtureRequest) -> LearnedOptimizer:
    return MEMBERS[request.param]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_types_and_purity(l2o: LearnedOptimizer, dtype: torch.dtype, generator: torch.Generator) -> None:
    if not isinstance(l2o, SymbolicOptimizer):
        l2o = l2o.to(dtype)
    g, w = torch.randn(2, 12, generator=generator).to(dtype)
    state = l2o.init_state(w, (5, 7), 10)
    assert all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    inputs = {"g": g, "w": w, **state}
    before = {key: value.clone() for key, value in inputs.items()}
    update, after = l2o.update(g, w, state)
    again, _ = l2o.update(g, w, state)
    assert update.shape == w.shape
    assert update.dtype == dtype
    assert torch.equal(update, again)
    assert all(torch.equal(before[key], value) for key, value in inputs.items())
    assert after.keys() == state.keys()
    for key, value in after.items():
        assert (value.shape, value.dtype) == (state[key].shape, state[key].dtype)


def test_does_not_depend_on_the_order_of_parameters(l2o: LearnedOptimizer, generator: torch.Generator) -> None:
    g, w = torch.randn(2, 12, generator=generator)
    order = torch.randperm(12, generator=generator)
    update, _ = l2o.update(g, w, l2o.init_state(w, None, 10))
    shuffled, _ = l2o.update(g[order], w[order], l2o.init_state(w[order], None, 10))
    torch.testing.assert_close(shuffled, update[order])


def test_state_cost_is_what_it_keeps(l2o: LearnedOptimizer) -> None:
    """One number a row or a column costs nothing, yet is kept entry by entry in the flat vector."""
    factored = l2o.initial_rule.program.live.factored if isinstance(l2o, SymbolicOptimizer) else 0
    w = torch.zeros(13)
    kept = sum(
        value.numel()
        for key, value in l2o.init_state(w, None, 10).items()
        if value.dim() and key not in ("sizes", "unsized")
    )
    assert kept == 13 * (l2o.state_cost + factored)


def test_meta_parameters_get_gradients(l2o: LearnedOptimizer, generator: torch.Generator) -> None:
    g, w = torch.randn(2, 12, generator=generator)
    state = l2o.init_state(w, None, 10)
    for _ in range(3):
        update, state = l2o.update(g, w, state)
    grads = torch.autograd.grad(update.sum(), list(l2o.parameters()))
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert any(grad.abs().sum() > 0 for grad in grads)


def test_description_tells_optimizers_apart() -> None:
    descriptions = [str(make().describe()) for make in MEMBERS.values()]
    assert len(set(descriptions)) == len(MEMBERS)
