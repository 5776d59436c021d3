"""Hypothesis strategies for random expressions and programs."""

from __future__ import annotations

from hypothesis import strategies as st

from closedform.lang import OPERATORS, Expr, Lag, Number, Program, Symbol, apply, parse

NAMES = ("g", "w", "a", "b")
ELEMENTWISE = [row for row in OPERATORS.values() if not row.reduces]
SMOOTH = ("add", "sub", "mul", "tanh", "square", "cube", "neg", "erf", "asinh", "abs", "sign", "relu", "min", "max")

numbers = st.builds(
    Number,
    st.one_of(
        st.integers(-20, 20).map(float),
        st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6),
        st.sampled_from([1e-8, 0.1, 0.999, -2.5e-12, 1e22]),
    ),
)
symbols = st.sampled_from(NAMES).map(Symbol)
lagged = st.builds(Lag, st.sampled_from(("g", "w")), st.integers(1, 5))


def expressions(rows=ELEMENTWISE, leaves=None, max_leaves: int = 12) -> st.SearchStrategy[Expr]:
    """Random trees over operator rows; a literal exponent stays within the parser's limit."""
    leaves = numbers | symbols | lagged if leaves is None else leaves

    def grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        def build(row) -> st.SearchStrategy[Expr]:
            last = st.integers(-5, 5).map(lambda k: Number(float(k))) if row.name == "pow" else inner
            args = [inner] * (row.arity - 1) + [last]
            return st.tuples(*args).map(lambda found: apply(row.name, *found))

        return st.sampled_from(rows).flatmap(build)

    return st.recursive(leaves, grow, max_leaves=max_leaves)


def smooth_expressions(names: tuple[str, ...], max_leaves: int = 6) -> st.SearchStrategy[Expr]:
    """Trees that stay finite and mild for arguments of order one."""
    small = st.floats(-2, 2, allow_nan=False).map(lambda x: Number(round(x, 3)))
    leaves = small | st.sampled_from(names).map(Symbol)
    return expressions([OPERATORS[name] for name in SMOOTH], leaves, max_leaves)


def _bounded(expr: Expr) -> Expr:
    return apply("tanh", expr)


programs = st.builds(
    lambda m, v, u, update: Program(
        {"a": 0.9, "b": 0.3},
        {
            "m": apply("add", apply("mul", Symbol("a"), Symbol("m")), apply("mul", Number(0.1), _bounded(m))),
            "v": apply("add", apply("mul", Number(0.95), Symbol("v")), apply("square", _bounded(v))),
        },
        {"u": u},
        {"update": _bounded(update)},
    ),
    smooth_expressions(("g", "w", "m", "v", "a")),
    smooth_expressions(("g", "m", "b")),
    smooth_expressions(("m", "v", "g", "b")),
    expressions(
        [OPERATORS[name] for name in SMOOTH],
        st.sampled_from(
            [Symbol("u"), Symbol("m"), Symbol("v"), Symbol("g"), Lag("m", 1), Lag("g", 2), Lag("u", 3), Lag("m", 3)]
        ),
        8,
    ),
)
"""Random rules of two states, with lags of inputs, states and named values."""


def _with_gradient(expr: Expr) -> Expr:
    """It varies over the tensor, whatever the expression is."""
    return apply("mul", Symbol("g"), _bounded(expr))


_LATE_LEAVES = (
    "progress; T/100; 1/numel; ndim; 1/fan_in; 1/fan_out; p; q; prev(q); lag(p, 3); m; v; g; prev(m); lag(g, 2); "
    "row_mean(g); col_mean(m); row_mean(g*p); norm(p); mean(q); rms(row_mean(w)); "
    "orthogonalise(m); orthogonalise(g*p); orthogonalise(col_mean(g))"
).split("; ")
_LATE = st.sampled_from([parse(text) for text in _LATE_LEAVES])
late_programs = st.builds(
    lambda m, row, column, begun, update: Program(
        {"a": 0.9, "b": 0.3},
        {
            "m": apply("add", apply("mul", Symbol("a"), Symbol("m")), apply("mul", Number(0.1), _bounded(m))),
            "v": apply("add", apply("mul", Number(0.95), Symbol("v")), apply("square", _bounded(m))),
            "p": apply("add", apply("mul", Symbol("b"), Symbol("p")), apply("row_mean", row)),
            "q": apply("add", apply("mul", Symbol("b"), Symbol("q")), apply("col_mean", column)),
        },
        {},
        {"update": _bounded(update)},
        {"m": _bounded(begun), "q": parse("col_mean(square(g))")},
    ),
    smooth_expressions(("g", "w", "v", "progress")).map(_with_gradient),
    smooth_expressions(("g", "w")).map(_with_gradient),
    smooth_expressions(("g", "m")).map(_with_gradient),
    smooth_expressions(("g", "w", "fan_in")),
    expressions([OPERATORS[name] for name in SMOOTH], _LATE, 8),
)
"""Random rules of level 2: the horizon, shapes, rows and columns, matrices, initial states."""
_STAGED = st.sampled_from(
    [
        parse(text)
        for text in (
            "m; v; g; prev(m); lag(o, 2); o; orthogonalise(o + v); orthogonalise(g*m); rms(o); fan_in; progress; "
            "orthogonalise(lag(o, 1) + g); n; orthogonalise(w)*norm(orthogonalise(g))"
        ).split("; ")
    ]
)
staged_programs = st.builds(
    lambda m, o, update: Program(
        {"a": 0.9},
        {
            "m": apply("add", parse("a*m"), apply("mul", Number(0.1), _bounded(m))),
            "v": parse("0.95*v + square(orthogonalise(g))"),
            "n": parse("0.5*n + rms(orthogonalise(w))"),
        },
        {"o": apply("orthogonalise", o)},
        {"update": _bounded(update)},
    ),
    smooth_expressions(("g", "w", "v")).map(_with_gradient),
    smooth_expressions(("g", "m", "n")).map(_with_gradient),
    expressions([OPERATORS[name] for name in SMOOTH if name != "sign"], _STAGED, 8),
)
"""Random rules with matrix operators, of each other too, but without rows and columns."""
