"""Values of a program that are never negative, proved: True, or None where it is not known. See ``_abstract``."""

from __future__ import annotations

from closedform.lang._abstract import Domain, fixed_point
from closedform.lang._expression import Apply, Expr, Number, Symbol
from closedform.lang._inputs import INPUTS, LATE_INPUTS
from closedform.lang._program import Program


def not_negative(program: Program) -> dict[str, bool | None]:
    """Which names and outputs of a folded program are never negative."""
    inputs = dict.fromkeys(INPUTS, None) | dict.fromkeys(("t", *LATE_INPUTS), True)
    return fixed_point(program, inputs, NOT_NEGATIVE)


def _n_all(_: Expr, args: list[bool | None], __: object) -> bool | None:
    return True if all(args) else None


def _n_always(_: Expr, __: object, ___: object) -> bool | None:
    return True


def _n_any(_: Expr, args: list[bool | None], __: object) -> bool | None:
    return True if any(args) else None


def _n_difference(expr: Apply, _: object, __: object) -> bool | None:
    """``1 - beta**t``, which undoes an average's start at 0; ``t - 1``."""
    first, second = expr.args
    if first == Symbol("t"):
        return True if isinstance(second, Number) and second.value <= 1 else None
    decays = isinstance(second, Apply) and second.op == "pow" and second.args[1] == Symbol("t")
    if isinstance(first, Number) and first.value >= 1 and isinstance(second, Apply) and decays:
        base = second.args[0]
        return True if isinstance(base, Number) and 0 <= base.value <= 1 else None
    return None


def _n_power(expr: Apply, args: list[bool | None], _: object) -> bool | None:
    exponent = expr.args[1]
    even = isinstance(exponent, Number) and exponent.value % 2 == 0
    return True if even or args[0] else None


def _n_where(_: Expr, args: list[bool | None], __: object) -> bool | None:
    return True if args[1] and args[2] else None


NOT_NEGATIVE: Domain[bool] = Domain(
    True,
    lambda value: value > 0,
    lambda x, y: (x and y) or None,
    {
        **dict.fromkeys(("add", "mul", "div", "min", "mean", "row_mean", "col_mean", "sign", "cube", "tanh"), _n_all),
        **dict.fromkeys(("asinh", "sinh", "erf"), _n_all),
        **dict.fromkeys(("abs", "square", "sqrt", "ssqrt", "exp", "erfc", "relu", "greater", "rms", "norm"), _n_always),
        "max": _n_any,
        "sub": _n_difference,
        "pow": _n_power,
        "where": _n_where,
    },
)
