"""Steps that find all as it was take a short way; whatever changes between steps is noticed, on either way."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from closedform.errors import OptionError
from closedform.optim import RuleOptimizer, _surgery
from closedform.rules import load_rule

Change = Callable[[list[nn.Parameter], RuleOptimizer], None]


def cut(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    """Rows go, at the same address; states likewise."""
    state = optimizer.state[params[0]]
    params[0].data = params[0].data[:2]
    for key in ("m", "v"):
        state[key].data = state[key].data[:2]


def transposed(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    """The strides change, and nothing else; states are left behind."""
    square = params[1]
    square.data = square.data.t()


def doubled(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    params[0].data = params[0].data.double()
    state = optimizer.state[params[0]]
    state.update({key: state[key].double() for key in ("m", "v")})


def swapped(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    """A state lies elsewhere, in the same tensor."""
    state = optimizer.state[params[2]]
    state["m"].data = torch.full_like(state["m"], 3.0)


def replaced(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    optimizer.state[params[2]]["v"] = torch.full_like(params[2], 5.0)


def begun_anew(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    del optimizer.state[params[1]]


def another_rule(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    optimizer.param_groups[0]["rule"] = load_rule("sgd").to_json()


def frozen(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    params[0].requires_grad_(False)


def grown(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    params.append(nn.Parameter(torch.ones(2, 2)))
    optimizer.add_param_group({"params": params[-1:]})


def nothing(params: list[nn.Parameter], optimizer: RuleOptimizer) -> None:
    pass


CHANGES = (cut, transposed, doubled, swapped, replaced, begun_anew, another_rule, frozen, grown, nothing)


def run(change: Change, backend: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (3, 3), (5,))]
    optimizer = RuleOptimizer(params, "adam", lr=0.1, backend=backend)
    for step in range(8):
        if step == 4:
            change(params, optimizer)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()
    return [param.detach() for param in params]


@pytest.mark.parametrize("guarded", [True, False], ids=["guards", "plain"])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_noticed(change: Change, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guarded:
        monkeypatch.setattr(_surgery, "_TensorGuards", None)
    for ours, theirs in zip(run(change, "compiled"), run(change, "reference"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_this_torch_has_guards() -> None:
    assert _surgery._TensorGuards is not None


def test_a_step_that_finds_all_as_it_was_reads_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    read, full = [], _surgery._read
    monkeypatch.setattr(_surgery, "_read", lambda *args: read.append(1) or full(*args))
    params = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    optimizer = RuleOptimizer(params, "adam", backend="compiled")
    counts = []
    for _ in range(5):
        for param in params:
            param.grad = torch.ones(3)
        optimizer.step()
        counts.append(len(read))
    assert counts[1] == counts[4]


def test_a_sparse_gradient_after_dense_ones_is_refused() -> None:
    params = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = RuleOptimizer(params, "adam", backend="compiled")
    for _ in range(3):
        for param in params:
            param.grad = torch.ones(3)
        optimizer.step()
    before = [param.detach().clone() for param in params]
    params[1].grad = torch.ones(3).to_sparse()
    with pytest.raises(OptionError, match="sparse"):
        optimizer.step()
    assert all(torch.equal(param.detach(), old) for param, old in zip(params, before, strict=True))


def test_gradients_laid_out_in_turns() -> None:
    results = []
    for backend in ("compiled", "reference"):
        weight = nn.Parameter(torch.ones(3, 3))
        optimizer = RuleOptimizer([weight], "adam", lr=0.1, backend=backend)
        for step in range(6):
            grad = torch.arange(9.0).reshape(3, 3) + step
            weight.grad = (grad.t() if step % 2 else grad).expand(3, 3)
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(*results)
