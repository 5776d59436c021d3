"""Degree of a program, proved: by what its values are multiplied when inputs are multiplied by c > 0 at every step.

A value of degree k is multiplied by c**k: in the gradient, Adam's m is of degree 1, its v of 2, its update of 0. A
small constant that is added to what is never negative, an eps, is let pass and told. A row an operator; see
``_abstract``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from closedform.lang._abstract import Domain, fixed_point, folded
from closedform.lang._expression import Apply, Expr, Number
from closedform.lang._inputs import INPUTS, LATE_INPUTS
from closedform.lang._not_negative import NOT_NEGATIVE, not_negative
from closedform.lang._program import Program

FLOOR = 1e-3
"""The largest constant that counts as a floor where it is added to what is never negative: an eps."""
MATRICES = "for matrices only"
"""The reservation of ``orthogonalise``, which leaves vectors as they are."""


@dataclass(frozen=True)
class Degree:
    """A value is multiplied by c**power; ``None`` is 0, of every degree.

    Attributes:
        power: The degree.
        but_for: Reservations: floors that were let pass, ``MATRICES``.
    """

    power: float | None
    but_for: frozenset[str] = frozenset()


def degrees(program: Program, powers: Mapping[str, float]) -> dict[str, Degree | None]:
    """Degrees of the names and outputs of a program when inputs are multiplied by c**power at every step, c > 0.

    Args:
        program: The program.
        powers: Input -> power, such as ``{"g": 1}``; the other inputs stay.
    """
    program = folded(program)
    inputs = {name: Degree(powers.get(name, 0.0)) for name in (*INPUTS, *LATE_INPUTS)}
    signs = not_negative(program)
    rows = {name: _with_floors(row, signs) if name in _FLOORED else row for name, row in _DEGREE_ROWS.items()}
    return fixed_point(program, inputs, Domain(Degree(None), lambda _: Degree(0.0), _same_degree, rows))


# Rows take (expression, degrees of its arguments, what tells the degree of an expression).


def _same_degree(x: Degree, y: Degree) -> Degree | None:
    but_for = x.but_for | y.but_for
    if x.power is None or y.power is None:
        return Degree(y.power if x.power is None else x.power, but_for)
    return Degree(x.power, but_for) if math.isclose(x.power, y.power, abs_tol=1e-12) else None


def _d_sum(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    x, y = args
    return None if x is None or y is None else _same_degree(x, y)


_FLOORED = ("add", "max")


def _with_floors(row: Callable[..., Degree | None], signs: Mapping[str, bool | None]) -> Callable[..., Degree | None]:
    """A small constant beside what is never negative does not count."""

    def floored(expr: Apply, args: list[Degree | None], known: object) -> Degree | None:
        for (floor, other), degree in zip((expr.args, expr.args[::-1]), args[::-1], strict=True):
            if not isinstance(floor, Number) or not 0 < floor.value <= FLOOR:
                continue
            if degree is not None and degree.power and NOT_NEGATIVE.value(other, signs):
                return Degree(degree.power, degree.but_for | {f"up to eps = {floor.value:g}"})
        return row(expr, args, known)

    return floored


def _d_product(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    x, y = args
    if x is None or y is None:
        return None
    power = None if x.power is None or y.power is None else x.power + y.power
    return Degree(power, x.but_for | y.but_for)


def _d_quotient(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    x, y = args
    if x is None or y is None or y.power is None:
        return None
    return Degree(None if x.power is None else x.power - y.power, x.but_for | y.but_for)


def _d_times(factor: float) -> Callable[..., Degree | None]:
    def row(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
        (x,) = args
        return x if x is None or x.power is None else Degree(x.power * factor, x.but_for)

    return row


def _d_power(expr: Apply, args: list[Degree | None], known: object) -> Degree | None:
    x, y = args
    exponent = expr.args[1]
    if x is None or y is None:
        return None
    if isinstance(exponent, Number):
        if x.power is None:
            return x if exponent.value > 0 else None
        return _d_times(exponent.value)(expr, [x], known)
    return Degree(0.0, x.but_for | y.but_for) if x.power == 0 and y.power in (0, None) else None


def _d_sign(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    (x,) = args
    return x if x is None or x.power is None else Degree(0.0, x.but_for)


def _d_orthogonal(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    (x,) = args
    return x if x is None or not x.power else Degree(0.0, x.but_for | {MATRICES})


def _d_function(at_zero: float | None) -> Callable[..., Degree | None]:
    """A function without a scale of its own argument: of degree 0, or of none."""

    def row(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
        (x,) = args
        if x is None or x.power:
            return None
        if x.power is None and at_zero == 0:
            return x
        return Degree(0.0, x.but_for) if x.power == 0 or at_zero is not None else None

    return row


def _d_all(_: Expr, args: list[Degree | None], __: object) -> Degree | None:
    first, *others = args
    for other in others:
        first = None if first is None or other is None else _same_degree(first, other)
    return first


def _d_greater(expr: Expr, args: list[Degree | None], known: object) -> Degree | None:
    both = _d_all(expr, args, known)
    return None if both is None else Degree(0.0, both.but_for)


def _d_where(expr: Expr, args: list[Degree | None], known: object) -> Degree | None:
    both = _d_all(expr, args[1:], known)
    return None if both is None or args[0] is None else Degree(both.power, both.but_for | args[0].but_for)


_DEGREE_ROWS: dict[str, Callable[..., Degree | None]] = {
    **dict.fromkeys(("add", "sub"), _d_sum),
    "mul": _d_product,
    "div": _d_quotient,
    **dict.fromkeys(("pow", "spow"), _d_power),
    **dict.fromkeys(("neg", "abs", "relu", "mean", "rms", "norm", "row_mean", "col_mean"), _d_times(1.0)),
    **dict.fromkeys(("sqrt", "ssqrt"), _d_times(0.5)),
    "square": _d_times(2.0),
    "cube": _d_times(3.0),
    "sign": _d_sign,
    "orthogonalise": _d_orthogonal,
    **dict.fromkeys(("tanh", "sinh", "asinh", "erf"), _d_function(0.0)),
    **dict.fromkeys(("exp", "erfc", "slog"), _d_function(1.0)),
    "log": _d_function(None),
    **dict.fromkeys(("min", "max", "clip"), _d_all),
    "greater": _d_greater,
    "where": _d_where,
}
