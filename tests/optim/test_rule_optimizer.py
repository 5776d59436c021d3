"""RuleOptimizer is a torch optimizer: groups, schedulers, state, resuming, refusals; its back ends agree."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from strategies import programs

from closedform import Rule, RuleOptimizer, load_rule
from closedform.errors import OptionError, RuleError
from closedform.rules import library_names

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (0, 3), (70_000,)]


def parameters(dtype=torch.float64, shapes=SHAPES) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def set_gradients(params, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)


def run(params, rule, steps: int = 5, **options) -> list[torch.Tensor]:
    optimizer = RuleOptimizer(params, rule, **options)
    for seed in range(steps):
        set_gradients(params, seed)
        optimizer.step()
    return [param.detach() for param in params]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", library_names())
def test_eager_equals_reference(name: str, dtype: torch.dtype) -> None:
    options = {"lr": 0.01, "weight_decay": 0.1, "maximize": True, "total_steps": 5}
    expected = run(parameters(dtype), name, backend="reference", **options)
    found = run(parameters(dtype), name, backend="eager", **options)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12 if dtype is torch.float64 else 1e-5, atol=1e-7)


@settings(max_examples=25)
@given(programs)
def test_random_rules_eager_equals_reference(program) -> None:
    rule = Rule("random", program)
    shapes = [(4, 3), (), (6,)]
    expected = run(parameters(shapes=shapes), rule, lr=0.1, backend="reference")
    found = run(parameters(shapes=shapes), rule, lr=0.1, backend="eager")
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize(
    ("update", "state", "expected"),
    [
        ("lag(g, 2)", {}, [0, 0, 1, 2, 3]),
        ("lag(m, 3)", {"m": "g"}, [0, 0, 0, 1, 2]),
        ("a", {"a": "b", "b": "g"}, [0, 1, 2, 3, 4]),
        ("1 + lag(w, 1)", {}, [1, 1, 2, 3, 5]),
    ],
)
def test_looking_back(update: str, state: dict[str, str], expected: list[float], backend: str) -> None:
    param = torch.nn.Parameter(torch.zeros(2))
    optimizer = RuleOptimizer([param], Rule.parse("past", update, state=state), lr=1.0, backend=backend)
    moved = []
    for t in range(1, 6):
        before = param.detach().clone()
        param.grad = torch.full((2,), float(t))
        optimizer.step()
        moved.append(float((param.detach() - before)[0]))
    assert moved == expected


def test_non_contiguous_tensors() -> None:
    for backend in ("reference", "eager"):
        plain = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
        turned = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4).t().contiguous().t())
        assert not turned.is_contiguous()
        results = []
        for param in (plain, turned):
            optimizer = RuleOptimizer([param], "adam", lr=0.1, backend=backend)
            for seed in range(3):
                set_gradients([param], seed)
                optimizer.step()
            results.append(param.detach())
        torch.testing.assert_close(results[0], results[1])


def test_weight_decay_is_decoupled() -> None:
    found = run(parameters(shapes=[(4,)]), "adam", lr=0.1, weight_decay=0.3, steps=3)
    params = parameters(shapes=[(4,)])
    adamw = torch.optim.AdamW(params, lr=0.1, weight_decay=0.3)
    for seed in range(3):
        set_gradients(params, seed)
        adamw.step()
    torch.testing.assert_close(found[0], params[0].detach(), rtol=1e-12, atol=1e-12)


def test_groups_names_and_defaults() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = RuleOptimizer(
        [
            {"params": [("weight", model.weight)], "lr": 0.5},
            {"params": [("bias", model.bias)], "rule": "lion", "weight_decay": 0.1},
        ],
        "adam",
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.0001]
    assert optimizer.param_groups[0]["param_names"] == ["weight"]
    assert "rule=adam, lr=0.5" in repr(optimizer)
    assert "rule=lion, lr=0.0001" in repr(optimizer)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert set(optimizer.state[model.weight]) == {"step", "m", "v"}
    assert set(optimizer.state[model.bias]) == {"step", "m"}


def test_schedulers_and_closure() -> None:
    param = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = RuleOptimizer([param], "sgd", lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = param.square().sum() / 2
        loss.backward()
        return loss

    losses = []
    for _ in range(3):
        losses.append(float(optimizer.step(closure).detach()))
        scheduler.step()
    assert losses == [0.5, 0.0, 0.0]
    assert optimizer.param_groups[0]["lr"] == 0.125
    tensor_lr = RuleOptimizer([param], "sgd", lr=torch.tensor(0.25))
    param.data.fill_(1.0)
    tensor_lr.step(closure)
    assert float(param.detach()) == 0.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["adam", "nadam", "lion", "amsgrad"])
def test_resuming_is_bit_identical(name: str, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    optimizer = RuleOptimizer(params, name, lr=0.01)
    for seed in range(4):
        set_gradients(params, seed)
        optimizer.step()
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": [p.detach() for p in params]}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    resumed_params = [torch.nn.Parameter(p.clone()) for p in saved["params"]]
    resumed = RuleOptimizer(resumed_params, name, lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    for seed in range(4, 8):
        for target, owner in ((params, optimizer), (resumed_params, resumed)):
            set_gradients(target, seed)
            owner.step()
    for a, b in zip(params, resumed_params, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(params, resumed_params, strict=True):
        for key, value in optimizer.state[a].items():
            other = resumed.state[b][key]
            assert (
                value == other if isinstance(value, int) else torch.equal(value, other) and value.dtype == other.dtype
            )


def test_state_dict_of_another_rule_is_refused_by_name() -> None:
    params = parameters(shapes=[(2,)])
    adam, lion = RuleOptimizer(params, "adam"), RuleOptimizer(params, "lion")
    set_gradients(params, 0)
    adam.step()
    with pytest.raises(RuleError, match=r'belongs to rule "adam" \(states: m, v\); this optimizer runs rule "lion"'):
        lion.load_state_dict(adam.state_dict())
    with pytest.raises(RuleError, match="not saved by a RuleOptimizer"):
        lion.load_state_dict(torch.optim.Adam(params).state_dict())


def test_parameters_frozen_and_added_midway() -> None:
    first, second = parameters(shapes=[(2,), (3,)])
    optimizer = RuleOptimizer([first, second], "adam", lr=0.1)
    for step in range(3):
        set_gradients([first, second], step)
        if step == 1:
            second.grad = None
        optimizer.step()
    assert (optimizer.state[first]["step"], optimizer.state[second]["step"]) == (3, 2)
    third = torch.nn.Parameter(torch.ones(4))
    optimizer.add_param_group({"params": [third]})
    set_gradients([third], 0)
    first.grad = second.grad = None
    before = first.detach().clone()
    optimizer.step()
    assert optimizer.state[third]["step"] == 1
    assert torch.equal(before, first)


def test_copies_and_pickles() -> None:
    params = parameters(shapes=[(2,)])
    optimizer = RuleOptimizer(params, "adam", lr=0.1)
    set_gradients(params, 0)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups[0]["lr"] == 0.1
    assert twin.rule == load_rule("adam")


def test_refusals_name_the_parameter() -> None:
    sparse = torch.nn.Embedding(4, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(OptionError, match='parameter "weight": its gradient is sparse'):
        RuleOptimizer(sparse.named_parameters(), "sgd").step()
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(OptionError, match="parameter 0: it is complex"):
        RuleOptimizer([param], "sgd").step()
    plain = torch.nn.Parameter(torch.ones(2))
    for bad in (-1.0, float("nan"), "fast", torch.ones(2)):
        with pytest.raises(OptionError, match="lr must be"):
            RuleOptimizer([plain], "sgd", lr=bad)
    with pytest.raises(OptionError, match="weight_decay must be"):
        RuleOptimizer([plain], "sgd", weight_decay=-1.0)


def test_nan_gradients_pass_through_as_in_torch() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.tensor([1.0, float("nan"), 1.0])
    RuleOptimizer([param], "adam").step()
    assert torch.equal(param.isnan(), torch.tensor([False, True, False]))


def test_lamb_against_its_definition() -> None:
    params = parameters(shapes=[(3, 2), (4,)])
    start = [param.detach().clone() for param in params]
    set_gradients(params, 0)
    gradients = [param.grad.clone() for param in params]
    RuleOptimizer(params, "lamb", lr=0.1).step()
    for param, w, g in zip(params, start, gradients, strict=True):
        r = g / (g.abs() + 1e-6) + 0.01 * w  # first step: m_hat = g, v_hat = g^2
        torch.testing.assert_close(param.detach(), w - 0.1 * w.norm() / r.norm() * r, rtol=1e-10, atol=0)


@pytest.mark.parametrize("rule", ["adam", "sgd", "cf1"])
def test_a_frozen_parameter_has_no_state_however_many_steps(rule: str) -> None:
    moving, frozen = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3), requires_grad=False)
    options = {"total_steps": 9} if rule == "cf1" else {}
    optimizer = RuleOptimizer([frozen, moving], rule, **options)
    for _ in range(4):
        moving.grad = torch.ones(3)
        optimizer.step()
    assert list(optimizer.state) == [moving]
    assert list(optimizer.state_dict()["state"]) == [1]
