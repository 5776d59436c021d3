"""The straight-line plan means what the reference interpreter means, for every rule and for odd programs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from closedform.features import FEATURES, feature_program
from closedform.lang import Program, horizon_inputs, initial_memory, parse, reduce_whole, shape_inputs, step
from closedform.learned_optimizers._torch_program import TorchProgram, flat_derivative_at_zero, segment_reduce
from closedform.rules import Rule, library_names, load_rule

ODD = {
    "lags": Rule.parse(
        "lags", "-lag(g, 3) - lag(m, 2) + prev(m) - lag(d, 2)", state={"m": "0.5*m + g"}, where={"d": "g*m"}
    ),
    "constant": Rule.parse("constant", "-1"),
    "scalar state": Rule.parse("scalar", "-g*k", state={"k": "k + 1/t"}),
    "reductions": Rule.parse(
        "red", "-g/rms(g) - mean(w)*norm(m)", state={"m": "0.9*m + g/norm(g)", "r": "max(r, rms(g))"}
    ),
    "shared": Rule.parse("shared", "-tanh(g*g) - tanh(g*g)*m", state={"m": "tanh(g*g)"}),
}
PROGRAMS = {
    **{name: load_rule(name).program for name in library_names()},
    **{name: rule.program for name, rule in ODD.items()},
    "all features": feature_program(FEATURES),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_interpreter(name: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    program = PROGRAMS[name]
    bound = TorchProgram(program).bind()
    w = torch.randn(11, generator=generator, dtype=dtype)
    expected_memory = memory = initial_memory(program, w)
    for t in range(1, 12):
        g = torch.randn(11, generator=generator, dtype=dtype)
        g[0] = 0.0
        clock = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": clock, **horizon_inputs(clock, 10), **shape_inputs(w.shape)}
        expected, expected_memory = step(program, inputs, expected_memory)
        outputs, memory = bound(inputs, memory, reduce_whole)
        _check_equal(outputs, expected)
        _check_equal(memory, expected_memory)
        w = w + 0.01 * outputs.get("update", g)


def _check_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0, equal_nan=True)


def test_given_constants_are_used_and_differentiable() -> None:
    program = Program({"a": 2.0, "b": 3.0}, {}, {}, {"update": parse("(1 - a)*g + b")})
    a = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    g = torch.tensor([1.0, 2.0])
    bound = TorchProgram(program).bind({"a": a})
    outputs, _ = bound({"g": g, "w": g, "t": torch.tensor(1.0)}, {}, reduce_whole)
    assert outputs["update"].tolist() == [-1.0, -5.0]
    (gradient,) = torch.autograd.grad(outputs["update"].sum(), a)
    assert float(gradient) == -3.0


@pytest.mark.parametrize(
    "text", ["sqrt(abs(a*g))", "ssqrt(a*g)", "spow(a*g, 1/3)", "abs(a*g)**0.5", "slog(a*g)", "rms(a*g)"]
)
def test_a_zero_gradient_does_not_poison_the_derivative_of_the_others(text: str) -> None:
    program = Program({"a": 1.0}, {}, {}, {"update": parse(f"g*{text}")})
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def derivative(g: Tensor) -> Tensor:
        outputs, _ = TorchProgram(program).bind({"a": a})(
            {"g": g, "w": g, "t": torch.tensor(1.0)}, {}, segment_reduce([2, len(g) - 2])
        )
        return torch.autograd.grad(outputs["update"].sum(), a)[0]

    others = derivative(torch.tensor([0.3, -2.0]))
    assert torch.isfinite(others)
    torch.testing.assert_close(derivative(torch.tensor([0.3, -2.0, 0.0, 0.0])), others)


def test_values_at_zero_stay_those_of_the_operator() -> None:
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    root = flat_derivative_at_zero(torch.sqrt)(x)
    assert root.tolist() == [0.0, 2.0]
    assert torch.autograd.grad(root.sum(), x)[0].tolist() == [0.0, 0.25]
    power = flat_derivative_at_zero(torch.pow)(x, torch.tensor(0.0))
    assert power.tolist() == [1.0, 1.0]


def test_reductions_are_taken_per_parameter_tensor() -> None:
    reduce = segment_reduce([2, 3])
    value = torch.tensor([3.0, 4.0, 1.0, 2.0, 2.0])
    assert reduce("norm", value).tolist() == [5.0, 5.0, 3.0, 3.0, 3.0]
    torch.testing.assert_close(reduce("mean", value), torch.tensor([3.5, 3.5, 5 / 3, 5 / 3, 5 / 3]))
    torch.testing.assert_close(reduce("rms", value)[:1] ** 2, torch.tensor([12.5]))
