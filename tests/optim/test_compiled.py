"""RuleOptimizer's compiled back end as a whole: equal to the others, chosen by itself, with a way out."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from strategies import programs

from closedform import Rule, RuleOptimizer
from closedform.errors import OptionError
from closedform.optim import _compiled, _optimizer
from closedform.rules import library_names, load_rule

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (0, 3), (70_000,)]
PAST = Rule.parse("past", "-m - lag(g, 2) - q*lag(m, 3)", state={"m": "0.9*m + g", "q": "0.5*q + 1/t"})

ELEMENTWISE = [name for name in library_names() if not load_rule(name).program.matrix_operators]
"""Those over matrices are in test_matrix_stages.py."""


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _optimizer._warn_once.cache_clear()
        yield


def parameters(dtype=torch.float32, shapes=SHAPES) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def set_gradients(params, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def run(params, rule, steps: int = 5, **options) -> RuleOptimizer:
    optimizer = RuleOptimizer(params, rule, **options)
    for seed in range(steps):
        set_gradients(params, seed)
        optimizer.step()
    return optimizer


def assert_same(found: RuleOptimizer, expected: RuleOptimizer, rtol: float, atol: float) -> None:
    pairs = zip(found.param_groups[0]["params"], expected.param_groups[0]["params"], strict=True)
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=rtol, atol=atol)
        for key, value in expected.state[other].items():
            torch.testing.assert_close(found.state[mine][key], value, rtol=rtol, atol=atol, msg=key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rule", [*ELEMENTWISE, PAST], ids=str)
def test_compiled_equals_reference(rule: str | Rule, dtype: torch.dtype) -> None:
    options = {"lr": 0.01, "weight_decay": 0.1, "maximize": True, "total_steps": 5}
    expected = run(parameters(dtype), rule, backend="reference", **options)
    found = run(parameters(dtype), rule, backend="compiled", **options)
    rtol, atol = {torch.float32: (1e-5, 1e-6), torch.float64: (1e-12, 1e-13), torch.bfloat16: (0.05, 0.02)}[dtype]
    assert_same(found, expected, rtol, atol)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule.parse("lagged", "-lag(v, 2)", state={"v": "row_mean(square(g))"}), "looks back at rows and columns"),
    ],
    ids=str,
)
def test_rules_that_cannot_be_compiled_say_what_to_do(rule: Rule, why: str) -> None:
    with pytest.raises(OptionError, match=f"{why}; take backend=None"):
        run(parameters(), rule, backend="compiled")


@settings(max_examples=15)
@given(programs)
def test_random_rules(program) -> None:
    shapes = [(4, 3), (), (6,)]
    expected = run(parameters(torch.float64, shapes), Rule("random", program), lr=0.1, backend="reference")
    found = run(parameters(torch.float64, shapes), Rule("random", program), lr=0.1, backend="compiled")
    assert_same(found, expected, 1e-11, 1e-12)


def test_it_is_the_default() -> None:
    assert_same(run(parameters(), "adam"), run(parameters(), "adam", backend="compiled"), 0, 0)


def test_learning_rates_change_without_compiling_again() -> None:
    params = parameters()
    optimizer = run(params, "adam", backend="compiled")
    before = _compiled._compile.cache_info().misses
    for lr in (0.1, torch.tensor(0.2), 0.0):
        optimizer.param_groups[0].update(lr=lr, weight_decay=0.5, maximize=True)
        optimizer.step()
    assert _compiled._compile.cache_info().misses == before


@pytest.mark.parametrize("backend", ["eager", "reference", "compiled"])
def test_back_ends_continue_each_others_work(backend: str) -> None:
    expected = run(parameters(), PAST, steps=8, lr=0.01, backend="reference")
    params = parameters()
    first = run(params, PAST, steps=4, lr=0.01, backend="compiled")
    second = RuleOptimizer(params, PAST, backend=backend)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.param_groups[0]["backend"] == backend
    for seed in range(4, 8):
        set_gradients(params, seed)
        second.step()
    assert_same(second, expected, 1e-4, 1e-5)


def test_parameters_frozen_and_added_midway() -> None:
    results = []
    for backend in ("compiled", "reference"):
        params = parameters(shapes=[(2,), (3,), (4,)])
        optimizer = RuleOptimizer(params[:2], PAST, lr=0.1, backend=backend)
        for seed in range(6):
            set_gradients(params, seed)
            if seed in (1, 3):
                params[seed % 2].grad = None
            if seed == 2:
                optimizer.add_param_group({"params": [params[2]], "rule": "adam"})
            optimizer.step()
        results.append(torch.cat([param.detach() for param in params]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_autograd_notices_the_change() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    loss = param.square().sum()
    loss.backward(retain_graph=True)
    RuleOptimizer([param], "sgd", backend="compiled").step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", ["compiled", "eager", "reference"])
def test_bfloat16_states_train_as_well(backend: str) -> None:
    """A problem whose second moment moves by less than bfloat16's last bit: to nearest, it would stand still."""
    losses = {}
    for state_dtype in (None, torch.bfloat16):
        param = torch.nn.Parameter(torch.full((200,), 2.0))
        scale = torch.linspace(0.1, 10, 200)
        optimizer = RuleOptimizer([param], "adam", lr=0.02, backend=backend, state_dtype=state_dtype)
        generator = torch.Generator().manual_seed(0)
        for _ in range(300):
            param.grad = scale * (param.detach() + 0.5 * torch.randn(200, generator=generator))
            optimizer.step()
        losses[state_dtype] = float((scale * param.detach().square()).mean())
        assert optimizer.state[param]["v"].dtype is (state_dtype or torch.float32)
    assert losses[torch.bfloat16] < 1.1 * losses[None] + 1e-3


def test_bfloat16_states_resume_bit_for_bit() -> None:
    params, again = parameters(), parameters()
    optimizer = run(params, "adam", lr=0.01, state_dtype=torch.bfloat16)
    interrupted = run(again, "adam", steps=2, lr=0.01, state_dtype=torch.bfloat16)
    resumed = RuleOptimizer(again, "adam")
    resumed.load_state_dict(copy.deepcopy(interrupted.state_dict()))
    for seed in range(2, 5):
        set_gradients(again, seed)
        resumed.step()
    assert_same(resumed, optimizer, 0, 0)


def test_without_a_compiler_one_warning_and_the_eager_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    rule = Rule.parse("new", "-0.125*g - 0.0625*m", state={"m": "g"})
    with pytest.warns(UserWarning, match="not compiled: .*no-such-compiler") as caught:
        found = run(parameters(), rule)
    assert len(caught) == 1
    assert_same(found, run(parameters(), rule, backend="eager"), 0, 0)
    with pytest.raises(OptionError, match='backend="compiled" cannot be used: .*no-such-compiler'):
        run(parameters(), rule, backend="compiled")
    _compiled._compile.cache_clear()


def test_other_types_take_the_eager_path() -> None:
    with pytest.warns(UserWarning, match="not float16"):
        run(parameters(torch.float16), "sgd", steps=1)
    with pytest.raises(OptionError, match="not float16"):
        run(parameters(torch.float16), "sgd", steps=1, backend="compiled")


def test_mixed_types_in_one_group() -> None:
    results = []
    for backend in ("compiled", "reference"):
        params = [*parameters(torch.float64, [(3,), (4,)]), *parameters(torch.float32, [(5,)])]
        run(params, "adam", lr=0.1, backend=backend)
        results.append(torch.cat([param.detach().double() for param in params]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)


def test_options_that_make_no_sense() -> None:
    for options, message in (
        ({"backend": "compild"}, "did you mean 'compiled'"),
        ({"state_dtype": torch.int32}, "state_dtype must be a floating-point"),
        ({"state_dtype": "bfloat16"}, "state_dtype must be a floating-point"),
    ):
        with pytest.raises(OptionError, match=message):
            RuleOptimizer(parameters(), "adam", **options)
