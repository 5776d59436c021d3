"""The horizon, the tensor as a matrix, and states that begin elsewhere than at zero: values known by hand."""

import math

import pytest
import torch

from closedform.errors import ExpressionError
from closedform.lang import (
    OPERATORS,
    Kind,
    Program,
    evaluate,
    horizon_inputs,
    initial_memory,
    memory_kinds,
    newton_schulz,
    parse,
    shape_inputs,
    step,
)

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def program(update: str, state=None, where=None, constants=None, init=None) -> Program:
    def read(section):
        return {name: parse(text) for name, text in (section or {}).items()}

    return Program(constants or {}, read(state), read(where), {"update": parse(update)}, read(init))


def run(given: Program, gradients: torch.Tensor, w: torch.Tensor, total: int = 4) -> list[torch.Tensor]:
    memory, updates = initial_memory(given, w), []
    for index, g in enumerate(gradients):
        t = torch.tensor(index + 1.0, dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": t, **horizon_inputs(t, total), **shape_inputs(w.shape)}
        outputs, memory = step(given, inputs, memory)
        updates.append(outputs["update"].expand_as(w))
        w = w + updates[-1]
    return updates


@pytest.mark.parametrize(
    ("shape", "numel", "ndim", "fan_in", "fan_out"),
    [((8, 3), 24, 2, 3, 8), ((8, 3, 5, 5), 600, 4, 75, 8), ((7,), 7, 1, 1, 7), ((), 1, 0, 1, 1), ((0, 3), 0, 2, 3, 0)],
)
def test_shape_inputs(shape, numel: int, ndim: int, fan_in: int, fan_out: int) -> None:
    found = {name: float(value) for name, value in shape_inputs(shape).items()}
    assert found == {"numel": numel, "ndim": ndim, "fan_in": fan_in, "fan_out": fan_out}


def test_progress_ends_at_one() -> None:
    updates = run(program("progress + T"), torch.zeros(6, 1), torch.zeros(1))
    assert [float(update) for update in updates] == [4.25, 4.5, 4.75, 5.0, 5.0, 5.0]


def test_means_of_rows_and_columns(generator: torch.Generator) -> None:
    x = torch.randn(4, 3, 2, generator=generator)
    values = {"g": x}
    torch.testing.assert_close(evaluate(parse("row_mean(g)"), values)[:, 0, 0], x.reshape(4, 6).mean(1))
    torch.testing.assert_close(evaluate(parse("col_mean(g)"), values)[0].reshape(6), x.reshape(4, 6).mean(0))
    vector = torch.randn(5, generator=generator)
    assert torch.equal(OPERATORS["row_mean"].torch(vector), vector)
    torch.testing.assert_close(OPERATORS["col_mean"].torch(vector), vector.mean().reshape(1))


def test_a_norm_counts_every_element_of_a_row(generator: torch.Generator) -> None:
    x = torch.randn(4, 3, generator=generator)
    spread = x.mean(1, keepdim=True).expand(4, 3)
    torch.testing.assert_close(evaluate(parse("norm(row_mean(g))"), {"g": x}), spread.norm())
    torch.testing.assert_close(evaluate(parse("mean(row_mean(g))"), {"g": x}), x.mean())


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 3, 2), (3, 3), (40, 100), (90, 33), (34, 8, 3, 3), (40, 50)])
def test_orthogonalise_maps_singular_values_by_the_quintic(shape, generator: torch.Generator) -> None:
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    found = OPERATORS["orthogonalise"].torch(x)
    u, s, v = torch.linalg.svd(x.reshape(shape[0], -1), full_matrices=False)
    s = s / (s.square().sum().sqrt() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(found, (u @ torch.diag(s) @ v).reshape(shape))
    assert 0.6 < float(s.min()) <= float(s.max()) < 1.3
    torch.testing.assert_close(OPERATORS["orthogonalise"].torch(-x), -found)
    torch.testing.assert_close(OPERATORS["orthogonalise"].torch(1000 * x), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 120), (130, 36), (40, 40)])
@pytest.mark.parametrize("spread", [1.0, 1e-4, 1e-9])
def test_orthogonalise_is_as_exact_as_its_type(shape, spread: float, generator: torch.Generator) -> None:
    """Small singular values in float32 too, which products of rows square."""
    u, s, v = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    x = (u * torch.logspace(0, math.log10(spread), len(s), dtype=torch.float64)) @ v
    orthogonalise = OPERATORS["orthogonalise"].torch
    exact = orthogonalise(x.float().double())
    assert torch.linalg.matrix_norm(orthogonalise(x.float()).double() - exact, 2) < 5e-5


def test_orthogonalise_of_stacks_and_its_derivative(generator: torch.Generator) -> None:
    """Wide matrices too, one by one, stacked and under vmap."""
    orthogonalise = OPERATORS["orthogonalise"].torch
    for shape in ((33, 70), (5, 4)):
        x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
        alone = torch.stack([orthogonalise(one) for one in x])
        torch.testing.assert_close(newton_schulz(x), alone)
        torch.testing.assert_close(torch.vmap(orthogonalise)(x), alone)
        direction = torch.randn(shape, generator=generator, dtype=torch.float64)
        _, slope = torch.func.jvp(orthogonalise, (x[0],), (direction,))
        change = (orthogonalise(x[0] + 1e-6 * direction) - orthogonalise(x[0] - 1e-6 * direction)) / 2e-6
        torch.testing.assert_close(slope, change, rtol=1e-5, atol=1e-6)
        one = x[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad((orthogonalise(one) * direction).sum(), one)
        torch.testing.assert_close((gradient * direction).sum(), (slope * direction).sum(), rtol=1e-9, atol=1e-9)


def test_orthogonalise_leaves_vectors_and_zeros() -> None:
    orthogonalise = OPERATORS["orthogonalise"].torch
    for x in (torch.tensor(3.0), torch.tensor([3.0, 4.0]), torch.zeros(3, 2), torch.zeros(0, 4)):
        assert torch.equal(orthogonalise(x), x)


def test_kinds_and_costs_of_rows_and_columns() -> None:
    second = {"r": "0.9*r + row_mean(square(g))", "c": "0.9*c + col_mean(square(g))"}
    adafactor = program("-g/sqrt(r*c/mean(r))", second)
    assert adafactor.kinds["r"] is Kind.ROWWISE
    assert adafactor.kinds["c"] is Kind.COLUMNWISE
    assert (adafactor.state_cost, adafactor.merged.factored) == (0, 2)
    memory = initial_memory(adafactor, torch.zeros(4, 3, 2))
    assert {key: tuple(value.shape) for key, value in memory.items()} == {"r": (4, 1, 1), "c": (1, 3, 2)}
    assert memory_kinds(program("s", {"s": "s + row_mean(g)*col_mean(g)"}))["s"] is Kind.ELEMENTWISE
    assert program("g*s", {"s": "s + 1/fan_in"}).kinds["s"] is Kind.PER_TENSOR


def test_factored_moments_of_a_vector_are_not_factored(generator: torch.Generator) -> None:
    second = {"r": "0.9*r + row_mean(square(g))", "c": "0.9*c + col_mean(square(g))"}
    whole = {"v": "0.9*v + square(g)"}
    gradients = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    start = torch.zeros(7, dtype=torch.float64)
    factored = run(program("-g/sqrt(r*c/mean(r))", second), gradients, start)
    torch.testing.assert_close(factored, run(program("-g/sqrt(v)", whole), gradients, start))


def test_initial_values_are_old_values_at_step_one() -> None:
    w, gradients = torch.tensor([10.0]), torch.tensor([[1.0], [2.0], [3.0]])
    follows = program("z - w - g", {"z": "z - g"}, init={"z": "w"})
    assert [float(update) for update in run(follows, gradients, w)] == [-2.0, -3.0, -4.0]
    assert [
        float(u)
        for u in run(program("prev(z)", {"z": "z + g"}, init={"z": "a*fan_out"}, constants={"a": 5.0}), gradients, w)
    ] == [5.0, 6.0, 8.0]


def test_states_are_merged_only_if_they_begin_alike() -> None:
    state = {"m": "0.9*m + g", "n": "0.9*n + g"}
    assert program("m + n", state, init={"m": "w", "n": "w"}).state_cost == 1
    apart = program("m + n", state, init={"m": "w"})
    assert apart.state_cost == 2
    assert run(apart, torch.ones(1, 1), torch.ones(1))[0].item() == pytest.approx(0.9 + 2)


def test_live_programs_keep_what_initial_values_need() -> None:
    begun = {"m": "a", "dead": "b"}
    live = program("m", {"m": "m + g", "dead": "dead + g"}, constants={"a": 2.0, "b": 1.0}, init=begun).live
    assert dict(live.constants) == {"a": 2.0}
    assert list(live.init) == ["m"]


def test_names_of_level_two_may_be_own_names_in_level_one() -> None:
    own = program("T*progress*row_mean", where={"progress": "g", "row_mean": "2*g"}, constants={"T": 3.0})
    assert own.level == 1
    assert own.reads == {"g"}
    assert not own.needs_total_steps
    assert run(own, torch.tensor([[2.0]]), torch.zeros(1))[0].item() == 24.0


@pytest.mark.parametrize(
    ("kwargs", "cause"),
    [
        ({"update": "progress*T", "constants": {"T": 3.0}}, 'constants "T": this name is reserved'),
        ({"update": "row_mean(g)*numel", "where": {"numel": "g"}}, 'where "numel": this name is reserved'),
        ({"update": "orthogonalise(t)"}, "orthogonalise needs a value that varies over the parameter tensor"),
        ({"update": "row_mean(norm(g))"}, "row_mean needs a value that varies"),
        ({"update": "col_mean(fan_in)"}, "col_mean needs a value that varies"),
        ({"update": "lag(progress, 2)"}, 'cannot look back at "progress"'),
        ({"update": "m", "state": {"m": "g"}, "init": {"n": "w"}}, 'init "n": there is no such state'),
        ({"update": "m", "state": {"m": "m + g"}, "init": {"m": "m"}}, 'init "m": unknown name "m"'),
        ({"update": "m", "state": {"m": "m + g"}, "init": {"m": "prev(g)"}}, "nothing came before"),
        ({"update": "lag(m, 2)", "state": {"m": "m + g"}, "init": {"m": "w"}}, "looked back at by one step only"),
    ],
)
def test_malformed(kwargs, cause: str) -> None:
    with pytest.raises(ExpressionError, match=cause):
        program(**kwargs)


def test_a_missing_input_is_named() -> None:
    inputs = {"g": torch.ones(1), "w": torch.ones(1), "t": torch.tensor(1.0, dtype=torch.float64)}
    with pytest.raises(ExpressionError, match=r'reads "progress".*horizon_inputs'):
        step(program("progress*g"), inputs, {})
    assert math.isfinite(float(step(program("t*g"), inputs, {})[0]["update"]))
