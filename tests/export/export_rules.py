"""Rules that visit every corner of the language, and random ones over all operators."""

from pathlib import Path

from hypothesis import strategies as st
from strategies import expressions

from closedform import Rule, load_rule
from closedform.lang import OPERATORS, Lag, Number, Program, Symbol, apply

_CONSTANTS = {"a": 0.9, "b": 0.3, "z": 0.0}
_TAKEN = (
    "self params defaults weight_decay maximize torch np math jnp jax optax print float result old value leaf new name "
    "lambda_ __class__ __x initial_lr capturable init wide memory moved change rule_params closure group loss"
).split()
CF1 = load_rule(Path(__file__).parents[2] / "benchmarks" / "recipes" / "cf1_start.json")
"""The form that `cf1` is searched in: the horizon, shapes, reductions and a matrix operator at once."""
RULES = {
    "cf1": CF1,
    "rows and columns": Rule.parse(
        "rows and columns",
        "-g/(sqrt(r/mean(r))*sqrt(c) + a) - orthogonalise(col_mean(g))*norm(row_mean(w))*z1 - prev(c)*z1/numel**h",
        state={"r": "r + max(t**(-h), z1)*(row_mean(square(g)) - r)", "c": "h*c + h*col_mean(square(g))"},
        init={"c": "col_mean(square(g))*T/(T + fan_out)", "r": "row_mean(abs(w)) + ndim"},
        constants={"a": 0.9, "h": 0.5, "z1": 0.01},
    ),
    "every operator": Rule.parse(
        "every operator",
        "-tanh(u1 + u2 + u3 + u4) + 1e-3*(erf(g) - erfc(w) + sinh(tanh(g)) + asinh(w) + exp(-abs(g)))"
        " + 1e-3*log(1 + square(w)) - -g*1e-3",
        state={"m": "a*m + (1 - a)*g", "v": "a*v + cube(g)*b"},
        where={
            "u1": "sign(g)*relu(m) + min(m, g) + max(v, b) + min(b, w) + clip(g, -a, a) + clip(a, m, v)",
            "u2": "greater(g, w) + greater(m, 0) + where(greater(g, b), m, 0.3) + where(m*v, a, b)",
            "u3": "spow(g, b) + spow(m, a) + ssqrt(v) + slog(g) + abs(m)**b + (1 + square(g))**(-2)",
            "u4": "clip(m, b, w) + where(relu(g), w, 1) + g/rms(g) + mean(w)",
        },
        constants=_CONSTANTS,
    ),
    "plain numbers": Rule.parse(
        "plain numbers",
        "-c1*g + c2 - c3*m - c4*w",
        state={"m": "sqrt(a)*m + g/a", "k": "2*a", "n": "n + 1/b"},
        where={
            "c1": "sqrt(a) + tanh(a + b) + a**b + 1/(a + b) + a/b + abs(a - 1) + max(a, b) + min(0.5, a)",
            "c2": "where(a, b, 1) + where(greater(a, b), 0.1, b) + greater(a, b) + spow(a, b) + slog(z) + a**2",
            "c3": "erf(b) + erfc(b) + relu(a) + sqrt(2)*exp(1) + 2**(-1) + k + 1/n + 1e-12/(z + 1e-3) + 3**0.5",
            "c4": "clip(a, 0, b) + sign(a) + square(a) + cube(b)",
        },
        constants=_CONSTANTS,
    ),
    "division by zero": Rule.parse(
        "division by zero",
        "-clip(g*(1/z), -1, 1) - min(exp(1e4*a), 1)*m + max(log(z), -1) + min(a/z, 2)"
        " + where(greater(z**0.5, 0), 1, g) + 1/log(0)",
        state={"m": "a*m + g"},
        constants=_CONSTANTS,
    ),
    "lags": Rule.parse(
        "lags",
        "-(m - prev(m)) - 0.1*lag(m, 3) - lag(g, 2)*lag(u, 1) - 0.01*lag(w, 2) - lag(c, 2) - lag(q, 2)",
        state={"m": "a*prev(m) + lag(g, 1) + lag(u, 2)", "p": "m", "q": "1 - (1 - q)*a"},
        where={"u": "tanh(m + p)", "c": "mean(g) + 1/t"},
        constants=_CONSTANTS,
    ),
    "per-tensor state": Rule.parse(
        "per-tensor state",
        "-g/(1 + n) - r*norm(w)*0.01",
        state={"n": "a*n + (1 - a)*norm(g)", "r": "r + mean(g)*q", "q": "a*q + b"},
        constants=_CONSTANTS,
    ),
    "only constants": Rule.parse("only constants", "-1"),
    "only time": Rule.parse("only time", "-1/t + b**t - lag(k, 3)", state={"k": "k + b"}, constants=_CONSTANTS),
    "only per tensor": Rule.parse("only per tensor", "-mean(g) + norm(w)*0.001"),
    "only the parameter": Rule.parse("only the parameter", "-w"),
    "long": Rule.parse(
        "long",
        "-" + " - ".join(f"0.{k}1*tanh({k}*m + prev(v)*{k + 1}.5 - first_named_constant*square(g))" for k in range(9)),
        state={"m": "a*m + (1 - a)*g", "v": "a*v + (1 - a)*square(m - g)"},
        constants={"a": 0.9, "first_named_constant": 0.25, **{f"unused_{k}": 1.0 for k in range(3)}},
    ),
    "taken names": Rule.parse(
        "None",
        "-m*" + "*".join(f"(1 + {name})" for name in _TAKEN) + " - rule_self*update",
        state={"m": "0.5*m + state*g"} | {name: f"self*{name} + g*params" for name in ("state", "update", "part1")},
        where={
            "scalar": "state*float",
            "one_step": "scalar + result",
            "State": "old*value*one_step",
            "rule_self": "leaf + State",
        },
        constants=dict.fromkeys(_TAKEN, 0.3),
    ),
}

_rows = list(OPERATORS.values())
_leaves = st.sampled_from(
    [
        *(Symbol(name) for name in ("g", "w", "t", "a", "z", "m", "n", "k")),
        Lag("g", 2),
        Lag("m", 1),
        Lag("w", 1),
        Lag("n", 2),
    ]
) | st.floats(-2, 2).map(lambda value: Number(round(value, 2)))


def _program(m, n, k, update) -> Program | None:
    try:
        return Program(
            {"a": 0.9, "z": 0.0},
            {
                "m": apply("add", apply("mul", Number(0.9), Symbol("m")), apply("tanh", m)),
                "n": apply("add", apply("mul", Number(0.5), Symbol("n")), apply("mean", apply("add", Symbol("g"), n))),
                "k": apply("add", apply("mul", Number(0.5), Symbol("k")), apply("erf", k)),
            },
            {},
            {"update": apply("tanh", update)},
        )
    except ValueError:  # a reduction of what does not vary
        return None


_uniform = st.sampled_from([Symbol("a"), Symbol("z"), Symbol("t"), Symbol("k"), Number(0.5), Number(-2.0)])
_elementwise = [row for row in _rows if not row.reduces]
all_programs = st.builds(
    _program,
    expressions(_rows, _leaves, 8),
    expressions(_rows, _leaves, 6),
    expressions(_elementwise, _uniform, 8),
    expressions(_rows, _leaves, 14),
).filter(lambda program: program is not None)
"""Random rules over all operators, with an elementwise, a per-tensor and a uniform state."""
