"""The optax export moves parameters exactly as `RuleOptimizer` does, eagerly and under jit, in both precisions."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from export_rules import RULES, all_programs
from hypothesis import given, settings
from strategies import late_programs, programs

from closedform import Rule, RuleOptimizer, load_rule
from closedform.export import export
from closedform.export._dialects import JAX
from closedform.rules import library_names

jax = pytest.importorskip("jax", reason="the optax export is tested where optax is: pip install 'closedform[optax]'")
optax = pytest.importorskip("optax", reason="pip install 'closedform[optax]'")

SHAPES = {"matrix": (3, 4), "number": ()}
STEPS = 20
HORIZON = 15
PAST_THE_END = pytest.mark.filterwarnings("ignore:step .* is past:UserWarning", "ignore:past:UserWarning")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def make(load, rule: Rule, **options):
    module = load(export(rule, "optax"))
    (name,) = (
        set(vars(module))
        - {"State", "wide", "one_step", "NamedTuple", "jax", "jnp", "optax", "math"}
        - {key for key in vars(module) if key.startswith("__") or key in JAX.helpers}
    )
    return getattr(module, name)(**options)


def arrays(seed: int, dtype=np.float64) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {key: generator.standard_normal(shape).astype(dtype) for key, shape in SHAPES.items()}


def reference(rule: Rule, dtype=np.float64, **options) -> tuple[dict[str, torch.Tensor], RuleOptimizer]:
    params = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in arrays(99, dtype).items()}
    optimizer = RuleOptimizer(params.values(), rule, backend="reference", **options)
    for seed in range(STEPS):
        for key, value in arrays(seed, dtype).items():
            params[key].grad = torch.tensor(value)
        optimizer.step()
    return params, optimizer


def check(load, rule: Rule, dtype=np.float64, rtol: float = 1e-11, atol: float = 1e-13, **options) -> None:
    options |= {"total_steps": HORIZON} if rule.needs_total_steps else {}
    optimizer = make(load, rule, **options)
    params = jax.tree.map(jax.numpy.asarray, arrays(99, dtype))
    state = optimizer.init(params)
    for seed in range(STEPS):
        updates, state = optimizer.update(jax.tree.map(jax.numpy.asarray, arrays(seed, dtype)), state, params)
        params = optax.apply_updates(params, updates)
    expected, torch_optimizer = reference(rule, dtype, **options)
    assert int(state.count) == STEPS
    for key, param in expected.items():
        assert params[key].dtype == dtype
        kept = torch_optimizer.state[param]
        assert set(kept) == {"step", *state.memory}
        pairs = [(tree[key], kept[name]) for name, tree in state.memory.items()]
        for found, value in [(params[key], param.detach()), *pairs]:
            known = ~np.isnan(found)  # the sign of NaN is NaN in jax, and 0 in torch
            assert known.all() or rule.name == "random"
            np.testing.assert_allclose(np.asarray(found)[known], value.numpy()[known], rtol, atol)


@PAST_THE_END
@pytest.mark.parametrize("name", library_names())
def test_library_rules(load, name: str) -> None:
    check(load, load_rule(name), lr=0.02, weight_decay=0.1)


@PAST_THE_END
@pytest.mark.parametrize("name", RULES)
def test_every_corner_of_the_language(load, name: str) -> None:
    check(load, RULES[name], lr=0.01)


@pytest.mark.parametrize("name", ["adam", "lamb", "nadam"])
def test_library_rules_in_single_precision(load, name: str) -> None:
    jax.config.update("jax_enable_x64", False)
    check(load, load_rule(name), np.float32, rtol=2e-4, atol=1e-5)


@settings(max_examples=8)
@given(program=programs)
def test_random_rules(load, program) -> None:
    check(load, Rule("random", program, lr=0.1))


@settings(max_examples=8)
@PAST_THE_END
@given(program=late_programs)
def test_random_rules_of_format_2(load, program) -> None:
    check(load, Rule("random", program, lr=0.1), rtol=1e-9, atol=1e-11)


@settings(max_examples=8)
@given(program=all_programs)
def test_random_rules_of_all_operators(load, program) -> None:
    check(load, Rule("random", program, lr=0.1))


def test_under_jit_with_a_schedule(load) -> None:
    """A scan compiles the step, so the state must keep its structure, shapes and types."""
    optimizer = make(load, load_rule("nadam"), lr=lambda count: 0.1 / (1 + count))
    params = jax.tree.map(jax.numpy.asarray, arrays(99))
    gradients = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *[arrays(seed) for seed in range(STEPS)])

    def step(carry, grads):
        params, state = carry
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, gradients))((params, optimizer.init(params)))
    expected = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in arrays(99).items()}
    torch_optimizer = RuleOptimizer(expected.values(), "nadam", lr=0.1, backend="reference")
    for seed in range(STEPS):
        torch_optimizer.param_groups[0]["lr"] = 0.1 / (1 + seed)
        for key, value in arrays(seed).items():
            expected[key].grad = torch.tensor(value)
        torch_optimizer.step()
    for key, param in expected.items():
        np.testing.assert_allclose(params[key], param.detach().numpy(), 1e-11)


def test_hyperparameters_can_be_injected_and_half_precision_kept(load) -> None:
    module = load(export("adam", "optax"))
    optimizer = optax.inject_hyperparams(module.adam, hyperparam_dtype=jax.numpy.float32)(lr=0.1, weight_decay=0.01)
    params = {"w": jax.numpy.ones(3, jax.numpy.bfloat16)}
    state = optimizer.init(params)
    updates, state = jax.jit(optimizer.update)(params, state, params)
    assert updates["w"].dtype == jax.numpy.bfloat16
    np.testing.assert_allclose(updates["w"].astype(float), -0.1 - 0.001, 1e-2)


def test_a_horizon_is_asked_for(load) -> None:
    rule = Rule.parse("annealed", "-(1 - progress)*g")
    with pytest.raises(TypeError, match="total_steps"):
        make(load, rule)
    with pytest.raises(ValueError, match="total_steps must be 1 or more, got 0"):
        make(load, rule, total_steps=0)


def test_params_are_asked_for_when_needed(load) -> None:
    grads = {"w": jax.numpy.ones(3)}
    for rule, options, needed in (("adam", {}, False), ("adam", {"weight_decay": 0.1}, True), ("adamw", {}, True)):
        optimizer = make(load, load_rule(rule), **options)
        state = optimizer.init(grads)
        if needed:
            with pytest.raises(ValueError, match="give params"):
                optimizer.update(grads, state)
        else:
            assert optimizer.update(grads, state)[0]["w"].shape == (3,)


@pytest.mark.parametrize(
    "rate", [np.float32(0.5), np.int64(2), np.ones((1, 1)), jax.numpy.ones(1), np.array(0.5)], ids=repr
)
def test_rates_as_people_hold_them(load, rate) -> None:
    ends = []
    for lr in (rate, float(np.asarray(rate).item())):
        optimizer = make(load, load_rule("adam"), lr=lr)
        params = jax.tree.map(jax.numpy.asarray, arrays(99))
        state = optimizer.init(params)
        for seed in range(3):
            updates, state = optimizer.update(jax.tree.map(jax.numpy.asarray, arrays(seed)), state, params)
            params = optax.apply_updates(params, updates)
        ends.append(params)
    for key, value in ends[1].items():
        assert ends[0][key].shape == value.shape
        np.testing.assert_allclose(ends[0][key], value, rtol=1e-12)
