"""States created for torch.distributed.checkpoint, which takes a step of rate 0 on zero gradients: nothing moves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from closedform import Rule, RuleOptimizer
from closedform.rules import library_names

NO_EPS = Rule.parse("no-eps", "-m/sqrt(v)", state={"m": "0.9*m + 0.1*g", "v": "0.99*v + 0.01*square(g)"})
RULES: list[str | Rule] = [*library_names(), NO_EPS]
BACKENDS = pytest.mark.parametrize("options", [{}, {"backend": "eager"}, {"capturable": True}], ids=str)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def optimizer_of(net: nn.Module, rule: str | Rule, **options: object) -> RuleOptimizer:
    return RuleOptimizer(net.parameters(), rule, lr=0.05, total_steps=20, **options)


def train(net: nn.Module, optimizer: RuleOptimizer, seeds: range) -> list[Tensor]:
    for seed in seeds:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
    return [param.detach().clone() for param in net.parameters()]


@BACKENDS
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_asking_before_the_first_step_changes_nothing(rule: str | Rule, options: dict[str, object]) -> None:
    expected = train(net := model(), optimizer_of(net, rule, **options), range(4))
    optimizer = optimizer_of(net := model(), rule, **options)
    get_optimizer_state_dict(net, optimizer)
    assert all(map(torch.equal, net.parameters(), model().parameters()))
    assert all(map(torch.equal, train(net, optimizer, range(4)), expected))


@BACKENDS
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_resuming(rule: str | Rule, options: dict[str, object]) -> None:
    """Into a model whose parameters were loaded first, as the recipe goes."""
    trained = optimizer_of(net := model(), rule, **options)
    train(net, trained, range(3))
    weights, saved = copy.deepcopy(net.state_dict()), copy.deepcopy(get_optimizer_state_dict(net, trained))
    expected = train(net, trained, range(3, 6))
    resumed = optimizer_of(fresh := model(), rule, **options)
    fresh.load_state_dict(weights)
    set_optimizer_state_dict(fresh, resumed, saved)
    assert all(torch.equal(value, weights[name]) for name, value in fresh.state_dict().items())
    assert all(map(torch.equal, train(fresh, resumed, range(3, 6)), expected))


def test_a_first_step_of_warm_up_is_a_step() -> None:
    """A rate of zero alone is no sign: the gradients count."""
    param = nn.Parameter(torch.ones(3))
    optimizer = RuleOptimizer([param], "adam", lr=0.0)
    param.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.state[param]["step"] == 1
    assert bool(optimizer.state[param]["m"].all())
