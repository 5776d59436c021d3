"""What a training script may hang on an optimizer: hooks, learning rates in tensors, small states, a compiled loop."""

from collections.abc import Iterator

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from closedform import RuleOptimizer
from closedform.codegen import _build as _native_build
from closedform.optim import _compiled


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def minibatches(digits: tuple[Tensor, Tensor], steps: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randint(len(digits[0]), (128,), generator=generator)
        yield digits[0][index], digits[1][index]


@pytest.mark.parametrize(("rule", "lr"), [("adam", 1e-3), ("momentum", 0.1), ("adabelief", 1e-2)])
def test_bfloat16_states_train_a_network_as_well(rule: str, lr: float, digits: tuple[Tensor, Tensor]) -> None:
    losses: dict[torch.dtype | None, list[float]] = {None: [], torch.bfloat16: []}
    for state_dtype, found in losses.items():
        for seed in range(3):
            model = network(seed)
            optimizer = RuleOptimizer(model.parameters(), rule, lr=lr, state_dtype=state_dtype)
            for x, y in minibatches(digits, 200, seed):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
            found.append(float(cross_entropy(model(digits[0]), digits[1]).detach()))
        sizes = {
            value.element_size() for state in optimizer.state.values() for key, value in state.items() if key == "m"
        }
        assert sizes == {4 if state_dtype is None else 2}
    whole, small = (sum(losses[state_dtype]) / 3 for state_dtype in (None, torch.bfloat16))
    assert whole < 1.0  # it has learnt something
    assert abs(small / whole - 1) < 0.01


def test_hooks() -> None:
    calls: list[str] = []
    param = nn.Parameter(torch.ones(2))
    optimizer = RuleOptimizer([param], "sgd", lr=1.0)
    handles = [
        register_optimizer_step_pre_hook(lambda *_: calls.append("before all")),
        register_optimizer_step_post_hook(lambda *_: calls.append("after all")),
        optimizer.register_step_pre_hook(lambda *_: calls.append(f"before {float(param[0].detach())}")),
        optimizer.register_step_post_hook(lambda *_: calls.append(f"after {float(param[0].detach())}")),
    ]
    try:
        param.grad = torch.ones(2)
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    optimizer.step()
    assert calls == ["before all", "before 1.0", "after 0.0", "after all"]


def test_a_hook_may_replace_the_closure() -> None:
    optimizer = RuleOptimizer([nn.Parameter(torch.ones(2))], "sgd")
    optimizer.register_step_pre_hook(lambda *_: ((optimizer, lambda: 7.0), {}))
    assert optimizer.step() == 7.0


def test_the_step_is_named_in_profiles() -> None:
    optimizer = RuleOptimizer([nn.Parameter(torch.ones(2))], "sgd")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#RuleOptimizer.step" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1), torch.tensor([0.1], dtype=torch.float64)], ids=repr)
def test_learning_rates_change_without_compiling(lr: float | Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a scheduler, or in place by hand; the tensor stays the one that was given."""
    param = nn.Parameter(torch.zeros(3))
    optimizer = RuleOptimizer([param], "sgd", lr=lr, backend="compiled")
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: (1.0, 0.5, 0.25, 0.25)[t])
    param.grad = torch.ones(3)
    optimizer.step()
    monkeypatch.setattr(_native_build, "_run_compiler", None)
    kept, misses = optimizer.param_groups[0]["lr"], _compiled._compile.cache_info().misses
    moved = []
    for _ in range(3):
        scheduler.step()
        param.data.zero_()
        optimizer.step()
        moved.append(-float(param[0].detach()))
    assert moved == pytest.approx([0.05, 0.025, 0.025])
    if isinstance(lr, Tensor):
        assert optimizer.param_groups[0]["lr"] is kept
        kept.fill_(0.75)
        param.data.zero_()
        optimizer.step()
        assert float(param[0].detach()) == -0.75
    assert _compiled._compile.cache_info().misses == misses


@pytest.mark.parametrize("options", [{"backend": "compiled"}, {"backend": "eager"}, {"capturable": True}], ids=str)
def test_a_compiled_training_function(options: dict[str, object], digits: tuple[Tensor, Tensor]) -> None:
    """torch.compile around forward, backward and step: the step runs as it is."""
    results = []
    for compiled in (False, True):
        model = network()
        optimizer = RuleOptimizer(model.parameters(), "adam", **options)

        def train(x: Tensor, y: Tensor, model: nn.Module = model, optimizer: RuleOptimizer = optimizer) -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        run = torch.compile(train, backend="eager") if compiled else train
        torch._dynamo.utils.counters.clear()
        for x, y in minibatches(digits, 4):
            run(x, y)
        results.append(torch.cat([param.detach().flatten() for param in model.parameters()]))
    assert torch.equal(*results)
    assert torch._dynamo.utils.counters["frames"]["total"] < 20  # nothing is traced again at every step


def test_groups_with_rules_of_their_own() -> None:
    """Each group goes as a model of its own with its own rule would."""
    x, y = torch.randn(16, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 10)
    together, alone = network(), {rule: network() for rule in ("lion", "adam")}
    groups = [{"params": together[0].parameters(), "rule": "lion", "lr": 0.01}, {"params": together[2].parameters()}]
    optimizer = RuleOptimizer(groups, "adam", lr=0.02)
    optimizers = [
        RuleOptimizer(alone["lion"][0].parameters(), "lion", lr=0.01),
        RuleOptimizer(alone["adam"][2].parameters(), "adam", lr=0.02),
    ]
    for _ in range(4):
        optimizer.zero_grad()
        mse_loss(together(x), y).backward()
        for model in alone.values():
            for param, other in zip(model.parameters(), together.parameters(), strict=True):
                param.grad = other.grad.clone()
        for each in (optimizer, *optimizers):
            each.step()
    assert all(map(torch.equal, together[0].parameters(), alone["lion"][0].parameters()))
    assert all(map(torch.equal, together[2].parameters(), alone["adam"][2].parameters()))
