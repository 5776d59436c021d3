"""The reference interpreter agrees with SymPy, and programs with recurrences computed by hand."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import expressions, numbers, programs, smooth_expressions, symbols

from closedform.errors import ExpressionError
from closedform.lang import (
    OPERATORS,
    Kind,
    Program,
    complexity,
    derivative,
    evaluate,
    from_sympy,
    initial_memory,
    parse,
    simplify,
    step,
    to_sympy,
    to_text,
)

SAFE = [
    row for row in OPERATORS.values() if not row.reduces and row.name not in ("where", "sinh", "exp", "cube", "pow")
]
values = st.fixed_dictionaries({name: st.floats(0.1, 3).map(lambda x: round(x, 4)) for name in ("g", "w", "a", "b")})


def interpreted(expr, point) -> float:
    return float(evaluate(expr, {name: torch.tensor(value, dtype=torch.float64) for name, value in point.items()}))


def by_sympy(expr, point) -> float | None:
    import sympy

    numbers = {sympy.Symbol(name, real=True): sympy.Float(value, 40) for name, value in point.items()}
    found = sympy.N(to_sympy(expr).subs(numbers), 40)
    return float(found) if found.is_real and found.is_finite else None


@settings(max_examples=60)
@given(expressions(SAFE, numbers.filter(lambda n: abs(n.value) < 100) | symbols, 5), values)
def test_interpreter_equals_sympy(expr, point) -> None:
    found = interpreted(expr, point)
    assume(math.isfinite(found) and 1e-200 < abs(found) < 1e12)
    try:
        expected = by_sympy(expr, point)
    except (TypeError, ValueError, ZeroDivisionError):  # SymPy's own limits on ill-defined points
        expected = None
    assume(expected is not None)
    # cancellation may cost digits; how many is seen by moving the point by one part in 1e14
    moved = interpreted(expr, {name: value * (1 + 1e-14) for name, value in point.items()})
    assume(math.isfinite(moved))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12 + 1e3 * abs(moved - found))


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("spow", (-4.0, 0.5), -2.0),
        ("ssqrt", (-9.0,), 3.0),
        ("slog", (0.0,), math.log(1e-8)),
        ("greater", (1.0, 1.0), 0.0),
        ("greater", (2.0, 1.0), 1.0),
        ("where", (0.0, 5.0, 7.0), 7.0),
        ("where", (-2.0, 5.0, 7.0), 5.0),
        ("clip", (5.0, -1.0, 1.0), 1.0),
        ("relu", (-3.0,), 0.0),
        ("sign", (0.0,), 0.0),
        ("erfc", (0.5,), math.erfc(0.5)),
        ("asinh", (-2.0,), math.asinh(-2.0)),
        ("min", (math.nan, 1.0), math.nan),
        ("max", (1.0, math.nan), math.nan),
        ("log", (0.0,), -math.inf),
        ("sqrt", (-1.0,), math.nan),
        ("div", (1.0, 0.0), math.inf),
        ("cube", (-2.0,), -8.0),
    ],
)
def test_operator_meanings(name: str, args: tuple[float, ...], expected: float) -> None:
    found = OPERATORS[name].torch(*(torch.tensor(arg, dtype=torch.float64) for arg in args))
    assert float(found) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_reductions() -> None:
    x = torch.tensor([3.0, -4.0], dtype=torch.float64)
    values = {"g": x}
    assert float(evaluate(parse("mean(g)"), values)) == -0.5
    assert float(evaluate(parse("norm(g)"), values)) == 5.0
    assert float(evaluate(parse("rms(g)"), values)) == pytest.approx(math.sqrt(12.5))


@settings(max_examples=40)
@given(smooth_expressions(("g", "a"), 5), values)
def test_sympy_round_trip_keeps_the_value(expr, point) -> None:
    try:
        back = from_sympy(to_sympy(expr))
    except ExpressionError:  # SymPy knows values, such as zoo, that the language does not
        assume(False)
    assert interpreted(back, point) == pytest.approx(interpreted(expr, point), rel=1e-8, abs=1e-8)


@settings(max_examples=15)
@given(smooth_expressions(("g", "a"), 4), values)
def test_simplify_keeps_the_value_and_never_grows(expr, point) -> None:
    shorter = simplify(expr)
    assert complexity(shorter) <= complexity(expr)
    assert interpreted(shorter, point) == pytest.approx(interpreted(expr, point), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    "text", ["tanh(a*g) + g**3/a", "sqrt(g) * log(a*g)", "erf(g)*exp(-g)", "asinh(a*g)", "abs(g - 5)*g"]
)
def test_derivative_by_finite_differences(text: str) -> None:
    expr, h = parse(text), 1e-6
    slope = (interpreted(expr, {"g": 0.7 + h, "a": 1.3}) - interpreted(expr, {"g": 0.7 - h, "a": 1.3})) / (2 * h)
    assert interpreted(derivative(expr, "g"), {"g": 0.7, "a": 1.3}) == pytest.approx(slope, rel=1e-6)


def run(program: Program, gradients: list[float]) -> list[float]:
    memory = initial_memory(program, torch.zeros(1, dtype=torch.float64))
    found = []
    for t, g in enumerate(gradients, 1):
        inputs = {
            "g": torch.tensor([g], dtype=torch.float64),
            "w": torch.zeros(1, dtype=torch.float64),
            "t": torch.tensor(float(t), dtype=torch.float64),
        }
        outputs, memory = step(program, inputs, memory)
        found.append(float(outputs["y"]))
    return found


def program(y: str, state=None, where=None, constants=None) -> Program:
    return Program(
        constants or {},
        {name: parse(text) for name, text in (state or {}).items()},
        {name: parse(text) for name, text in (where or {}).items()},
        {"y": parse(y)},
    )


def test_time_indices() -> None:
    total = {"s": "s + g"}  # 1, 3, 6, 10, 15
    grads = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert run(program("s", total), grads) == [1, 3, 6, 10, 15]
    assert run(program("prev(s)", total), grads) == [0, 1, 3, 6, 10]
    assert run(program("lag(s, 3)", total), grads) == [0, 0, 0, 1, 3]
    assert run(program("lag(g, 2)"), grads) == [0, 0, 1, 2, 3]
    assert run(program("lag(u, 2)", where={"u": "g*t"}), grads) == [0, 0, 1, 4, 9]
    assert run(program("s", {"s": "g + lag(s, 2)"}), grads) == [1, 2, 4, 6, 9]
    assert run(program("s2", {"s": "s + g", "s2": "s"}), grads) == [0, 1, 3, 6, 10]  # states see old states
    assert run(program("a*t", constants={"a": 2.0}), grads) == [2, 4, 6, 8, 10]


@given(programs)
def test_merging_and_pruning_keep_the_values(given_program) -> None:
    gradients = [0.3, -1.0, 0.5, 0.2]
    renamed = Program(
        given_program.constants, given_program.state, given_program.where, {"y": given_program.outputs["update"]}
    )
    assert run(renamed.merged, gradients) == run(renamed, gradients)


def test_state_cost() -> None:
    ema = "b*{0} + (1 - b)*g"
    twice = program("m + n", {"m": ema.format("m"), "n": ema.format("n")}, constants={"b": 0.9})
    assert twice.state_cost == 1  # equal recurrences are one
    assert program("m", {"m": ema.format("m"), "unused": "unused + g"}, constants={"b": 0.9}).state_cost == 1
    assert program("lag(g, 3) + prev(g)").state_cost == 3
    assert program("lag(s, 3)", {"s": "s + g"}).state_cost == 3  # s itself and two older values
    assert program("prev(s)", {"s": "s + g"}).state_cost == 1
    assert program("g*q", {"q": "1 - (1 - q)*0.9"}).state_cost == 0  # a scalar, not a buffer
    assert program("s", {"s": "0.9*s + norm(g)"}).kinds["s"] is Kind.PER_TENSOR
    assert program("g*s", {"s": "0.9*s + norm(g)"}).state_cost == 0
    chain = {"m": "0.9*m + g", "n": "0.9*n + g", "p": "0.5*p + m", "q": "0.5*q + n"}
    assert program("p + q", chain).state_cost == 2  # q equals p once n equals m


@pytest.mark.parametrize(
    ("kwargs", "cause"),
    [
        ({"y": "m"}, 'unknown name "m"'),
        ({"y": "beta3*g", "constants": {"beta2": 0.9}}, "did you mean 'beta2'"),
        ({"y": "u", "where": {"u": "v", "v": "g"}}, "define it before its use"),
        ({"y": "g", "state": {"s": "u"}, "where": {"u": "g"}}, "a state cannot use it"),
        ({"y": "lag(a, 2)", "constants": {"a": 1.0}}, 'cannot look back at "a"'),
        ({"y": "lag(t, 2)"}, 'cannot look back at "t"'),
        ({"y": "g", "state": {"g": "g"}}, "reserved"),
        ({"y": "g", "state": {"tanh": "g"}}, "reserved"),
        ({"y": "g", "state": {"m": "g"}, "where": {"m": "g"}}, "already defined"),
        ({"y": "g", "state": {"a b": "g"}}, "identifier"),
        ({"y": "mean(t)"}, "varies over the parameter tensor"),
        ({"y": "g", "constants": {"a": math.nan}}, "not finite"),
        (
            {"y": "+".join(f"lag(w{i}, 256)" for i in range(5)), "where": {f"w{i}": f"g*{i + 2}" for i in range(5)}},
            "buffers",
        ),
    ],
)
def test_malformed_programs(kwargs, cause: str) -> None:
    with pytest.raises(ExpressionError, match=cause):
        program(**kwargs)


def test_everything_prints_as_one_line() -> None:
    assert to_text(parse("where(greater(g, 0), sqrt(g), -1)")) == "where(greater(g, 0), sqrt(g), -1)"
