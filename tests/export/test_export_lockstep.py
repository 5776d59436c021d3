"""Exported optimizers move parameters exactly as `RuleOptimizer` does."""

import io
import warnings

import numpy as np
import pytest
import torch
from export_rules import CF1, RULES, all_programs
from hypothesis import given, settings
from strategies import late_programs, programs
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from closedform import Rule, RuleOptimizer, load_rule
from closedform.export import export
from closedform.rules import library_names

SHAPES = [(), (2, 3, 2)]
LAYERS = [(), (5,), (4, 3), (3, 4), (4, 2, 3, 3), (7, 2), (1, 4)]
"""A scalar, a bias, matrices both ways, a convolution, an embedding, one row."""
STEPS = 20
HORIZON = 15
PAST_THE_END = pytest.mark.filterwarnings("ignore:step .* is past:UserWarning", "ignore:past:UserWarning")


def parameters(dtype=torch.float64, shapes=SHAPES) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def gradients(seed: int, like) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w.dtype) for w in like]


def advance(optimizer, params, seeds=range(STEPS)) -> None:
    for seed in seeds:
        for param, grad in zip(params, gradients(seed, params), strict=True):
            param.grad = grad
        optimizer.step()


def optimizer_class(module) -> type[torch.optim.Optimizer]:
    (found,) = (value for value in vars(module).values() if isinstance(value, type))
    return found


def assert_same_state(found, expected, **tolerances) -> None:
    """States of the same names and values; an exported file keeps what is the same everywhere as a Python number."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        other = torch.as_tensor(found[key], dtype=torch.as_tensor(value).dtype)
        torch.testing.assert_close(other, torch.as_tensor(value), equal_nan=True, **tolerances)


def check_torch(load, rule: Rule, dtype=torch.float64, rtol=1e-12, atol=1e-14, shapes=SHAPES, **options) -> None:
    ours, theirs = parameters(dtype, shapes), parameters(dtype, shapes)
    horizon = {"total_steps": HORIZON} if rule.needs_total_steps else {}
    reference = RuleOptimizer(ours, rule, backend="reference", **options, **horizon)
    exported = optimizer_class(load(export(rule, "python")))(theirs, **options, **horizon)
    advance(reference, ours)
    advance(exported, theirs)
    for a, b in zip(theirs, ours, strict=True):
        assert a.isfinite().all() or rule.name == "random"
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)
        assert_same_state(exported.state[a], reference.state[b], rtol=rtol, atol=atol)


def check_numpy(load, rule: Rule, rtol=1e-12, atol=1e-13, shapes=SHAPES) -> None:
    """Where numpy has numbers: the sign of NaN is NaN there, and 0 in torch."""
    module = load(export(rule, "numpy"))
    params = parameters(shapes=shapes)
    horizon = [HORIZON] if rule.needs_total_steps else []
    reference = RuleOptimizer(params, rule, lr=0.01, backend="reference", total_steps=HORIZON)
    arrays = [param.detach().numpy().copy() for param in params]
    states = [module.init(w) for w in arrays]
    with np.errstate(all="ignore"):
        for seed in range(STEPS):
            for index, g in enumerate(gradients(seed, params)):
                result, states[index] = module.update(g.numpy(), arrays[index], states[index], *horizon)
                assert np.shape(result) == arrays[index].shape
                arrays[index] = arrays[index] + 0.01 * result
    advance(reference, params)
    for w, state, param in zip(arrays, states, params, strict=True):
        assert np.isfinite(w).all() or rule.name == "random"
        assert state.keys() == reference.state[param].keys()
        for found, expected in [(w, param.detach()), *((state[key], reference.state[param][key]) for key in state)]:
            known = ~np.isnan(found)
            np.testing.assert_allclose(np.asarray(found)[known], np.asarray(expected)[known], rtol=rtol, atol=atol)


@PAST_THE_END
@pytest.mark.parametrize("name", library_names())
def test_library_rules_in_torch(load, name: str) -> None:
    check_torch(load, load_rule(name))
    check_torch(load, load_rule(name), lr=0.02, weight_decay=0.1, maximize=True)


@PAST_THE_END
@pytest.mark.parametrize("name", library_names())
def test_library_rules_in_numpy(load, name: str) -> None:
    check_numpy(load, load_rule(name))
    assert load_rule(name).lr == load(export(name, "numpy")).LR


@PAST_THE_END
@pytest.mark.parametrize("name", RULES)
def test_every_corner_of_the_language(load, name: str) -> None:
    check_torch(load, RULES[name], lr=0.01, weight_decay=0.1)
    check_numpy(load, RULES[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["adam", "lamb", "nadam", "lion"])
def test_other_types(load, name: str, dtype: torch.dtype) -> None:
    check_torch(load, load_rule(name), dtype, rtol=2e-5 if dtype is torch.float32 else 2e-2, atol=1e-6)


@settings(max_examples=20)
@given(program=programs)
def test_random_rules(load, program) -> None:
    check_torch(load, Rule("random", program, lr=0.1))
    check_numpy(load, Rule("random", program, lr=0.1))


@settings(max_examples=25)
@PAST_THE_END
@given(program=late_programs)
def test_random_rules_of_format_2(load, program) -> None:
    check_torch(load, Rule("random", program, lr=0.1), rtol=1e-9, atol=1e-11)
    check_numpy(load, Rule("random", program, lr=0.1), rtol=1e-9, atol=1e-11)


@PAST_THE_END
def test_the_form_of_cf1_on_every_kind_of_layer(load) -> None:
    check_torch(load, CF1, rtol=1e-9, atol=1e-11, shapes=LAYERS, weight_decay=0.1)
    check_torch(load, CF1, torch.float32, rtol=1e-3, atol=1e-4, shapes=LAYERS)
    check_numpy(load, CF1, rtol=1e-9, atol=1e-11, shapes=LAYERS)


ANNEALED = Rule.parse("annealed", "-(1 - progress)*g", lr=1.0)


@pytest.mark.parametrize("target", ["python", "numpy"])
def test_past_the_horizon_it_warns_once(load, target: str) -> None:
    module = load(export(ANNEALED, target))
    param = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optimizer_class(module)([param], total_steps=3) if target == "python" else None
    w, state = np.zeros(2), module.init(np.zeros(2)) if target == "numpy" else None
    moves, warned = [], []
    for _ in range(6):
        before = param.detach().clone()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if optimizer is not None:
                param.grad = torch.ones(2, dtype=torch.float64)
                optimizer.step()
                moves.append(float((param.detach() - before)[0]))
            else:
                result, state = module.update(np.ones(2), w, state, 3)
                moves.append(float(result[0]))
        warned.append([str(one.message) for one in caught])
    assert warned == [[], [], [], ["past total_steps=3: progress stays 1"], [], []]
    np.testing.assert_allclose(moves, [-2 / 3, -1 / 3, 0, 0, 0, 0], rtol=1e-12)


def test_a_horizon_is_asked_for_by_numpy(load) -> None:
    module = load(export(ANNEALED, "numpy"))
    with pytest.raises(TypeError, match="total_steps"):
        module.update(np.ones(2), np.ones(2), module.init(np.ones(2)))
    with pytest.raises(ValueError, match="total_steps must be 1 or more, got 0"):
        module.update(np.ones(2), np.ones(2), module.init(np.ones(2)), 0)


def test_a_horizon_is_asked_for(load) -> None:
    kind = optimizer_class(load(export(ANNEALED, "python")))
    with pytest.raises(TypeError, match="total_steps"):
        kind([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="total_steps must be 1 or more"):
        kind([torch.nn.Parameter(torch.ones(2))], total_steps=0)


@settings(max_examples=40)
@given(program=all_programs)
def test_random_rules_of_all_operators(load, program) -> None:
    check_torch(load, Rule("random", program, lr=0.1))
    check_numpy(load, Rule("random", program, lr=0.1))


def save_and_load(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rule", ["adam", "nadam", "lion", RULES["per-tensor state"], RULES["lags"]], ids=str)
def test_resuming_is_bit_identical(load, rule, dtype: torch.dtype) -> None:
    kind = optimizer_class(load(export(rule, "python")))
    params = parameters(dtype)
    optimizer = kind(params, lr=0.01, weight_decay=0.1)
    advance(optimizer, params, range(4))
    saved = save_and_load({"optimizer": optimizer.state_dict(), "params": [param.detach() for param in params]})
    copies = [torch.nn.Parameter(value.clone()) for value in saved["params"]]
    resumed = kind(copies, lr=0.5)
    resumed.load_state_dict(saved["optimizer"])
    for owner, owned in ((optimizer, params), (resumed, copies)):
        advance(owner, owned, range(4, 9))
    for a, b in zip(copies, params, strict=True):
        assert torch.equal(a, b)
        for key, value in optimizer.state[b].items():
            other = resumed.state[a][key]
            same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
            assert same
            assert getattr(value, "dtype", None) == getattr(other, "dtype", None)


def test_groups_schedulers_and_closure(load) -> None:
    kind = optimizer_class(load(export("momentum", "python")))
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = kind([{"params": [("a", first)], "lr": 1.0}, {"params": [("b", second)], "beta": 0.0}], lr=0.5)
    assert [group["beta"] for group in optimizer.param_groups] == [0.9, 0.0]
    assert optimizer.param_groups[0]["param_names"] == ["a"]
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = first.sum() + second.sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4.0
    scheduler.step()
    optimizer.step(closure)
    torch.testing.assert_close(first.detach(), torch.full((2,), 1 - 1.0 - 0.5 * 1.9))
    torch.testing.assert_close(second.detach(), torch.full((2,), 1 - 0.5 - 0.25))
    second.grad = None
    optimizer.step()
    assert [optimizer.state[param]["step"] for param in (first, second)] == [3, 2]


def test_refusals(load) -> None:
    kind = optimizer_class(load(export("adam", "python")))
    sparse = torch.nn.Embedding(4, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients are not supported"):
        kind(sparse.parameters()).step()
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match="complex parameters are not supported"):
        kind([param]).step()
    for options in ({"lr": -1.0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match="must not be negative"):
            kind([torch.nn.Parameter(torch.ones(2))], **options)


RATES = {
    "float32": np.float32(0.5),
    "int64": np.int64(2),
    "tensor": torch.tensor(0.5),
    "tensor of one": torch.tensor([0.5]),
    "tensor of 1 x 1": torch.tensor([[0.5]], dtype=torch.float64),
    "parameter": torch.nn.Parameter(torch.tensor([0.5])),
}


@pytest.mark.parametrize("kind", RATES)
def test_rates_as_people_hold_them_in_torch(load, kind: str) -> None:
    optimizer = optimizer_class(load(export(load_rule("adam"), "python")))
    ends = []
    for rate in (RATES[kind], float(RATES[kind])):
        params = parameters()
        stepper = optimizer([{"params": params[:1], "lr": rate}, {"params": params[1:]}], lr=rate, weight_decay=rate)
        advance(stepper, params)
        ends.append(params)
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_states_created_for_a_checkpoint_in_torch(load) -> None:
    """torch.distributed.checkpoint takes a step of rate 0 on zero gradients: 0/0 for this rule."""
    rule = Rule.parse("sign", "-m/abs(m)", state={"m": "0.9*m + 0.1*g"})
    kind = optimizer_class(load(export(rule, "python")))
    ends = []
    for asks in (False, True):
        layer = torch.nn.Linear(3, 2, dtype=torch.float64)
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = kind(layer.parameters(), lr=0.1)
        if asks:
            get_optimizer_state_dict(layer, optimizer)
        advance(optimizer, list(layer.parameters()))
        ends.append((list(layer.parameters()), [state["step"] for state in optimizer.state.values()]))
    assert ends[0][1] == ends[1][1]
    assert all(map(torch.equal, ends[0][0], ends[1][0]))
