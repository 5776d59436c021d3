"""Parity of a program, proved: how its values answer when some inputs change sign at every step.

Adam's m is odd in the gradient, its v even, its update odd. A value that is 0 is both even and odd, so that the same
analysis with a gradient of 0 tells whether a rule stands still without one. A row an operator; see ``_abstract``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum

from closedform.lang._abstract import Domain, fixed_point, folded
from closedform.lang._expression import Apply, Expr, Number, apply
from closedform.lang._inputs import INPUTS, LATE_INPUTS
from closedform.lang._not_negative import NOT_NEGATIVE, not_negative
from closedform.lang._program import Program


class Parity(Enum):
    """How a value answers when the inputs named odd change sign; ``ZERO`` is both."""

    ZERO = 0
    EVEN = 1
    ODD = 2


def parities(program: Program, odd: Collection[str] = ("g",), zero: Collection[str] = ()) -> dict[str, Parity | None]:
    """How the names and outputs of a program answer when inputs change sign at every step.

    Args:
        program: The program.
        odd: Inputs that change sign.
        zero: Inputs that are 0 at every step; what is then ``ZERO`` is 0 at every step.
    """
    inputs = {name: Parity.ODD if name in odd else Parity.EVEN for name in (*INPUTS, *LATE_INPUTS)}
    program = folded(program)
    return fixed_point(program, inputs | dict.fromkeys(zero, Parity.ZERO), _domain(not_negative(program)))


def parity(expr: Expr, known: Mapping[str, Parity | None]) -> Parity | None:
    """That of one expression with its numbers put in, given those of its names; a lagged name is as the name is."""
    return _domain({}).value(expr, known)


def _domain(signs: Mapping[str, bool | None]) -> Domain[Parity]:
    clipped = dict.fromkeys(("clip", "min", "max"), _clipped(signs))
    return Domain(_P.ZERO, lambda _: _P.EVEN, _same_parity, _ROWS | clipped)


# Rows take (expression, parities of its arguments, what tells the parity of an expression).

_P = Parity


def _same_parity(x: Parity, y: Parity) -> Parity | None:
    if x is y or y is _P.ZERO:
        return x
    return y if x is _P.ZERO else None


def _joined(args: Sequence[Parity | None]) -> Parity | None:
    x, y = args
    return None if x is None or y is None else _same_parity(x, y)


def _p_sum(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return _joined(args)


def _p_product(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    x, y = args
    if x is None or y is None:
        return None
    if _P.ZERO in (x, y):
        return _P.ZERO
    return _P.EVEN if x is y else _P.ODD


def _p_quotient(expr: Expr, args: list[Parity | None], known: object) -> Parity | None:
    return None if args[1] is _P.ZERO else _p_product(expr, args, known)


def _p_kept(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return args[0]


def _p_even(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return _P.EVEN if args[0] is _P.ODD else args[0]


def _p_never_zero(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    """Even functions that are not 0 at 0."""
    return None if args[0] is None else _P.EVEN


def _p_lopsided(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    """Neither even nor odd: what is even stays so."""
    return _joined_even(args)


def _p_lopsided_never_zero(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return None if _joined_even(args) is None else _P.EVEN


def _joined_even(args: Sequence[Parity | None]) -> Parity | None:
    if any(arg in (None, _P.ODD) for arg in args):
        return None
    return _P.ZERO if all(arg is _P.ZERO for arg in args) else _P.EVEN


def _p_power(expr: Apply, args: list[Parity | None], _: object) -> Parity | None:
    exponent = expr.args[1]
    if isinstance(exponent, Number) and exponent.value.is_integer() and exponent.value > 0:
        return _p_even(expr, args, None) if exponent.value % 2 == 0 else args[0]
    if isinstance(exponent, Number) and exponent.value.is_integer() and args[0] is _P.ODD:
        return _P.EVEN if exponent.value % 2 == 0 else _P.ODD
    return None if _joined_even(args) is None else _P.EVEN


def _p_signed_power(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return None if args[1] in (None, _P.ODD) or args[0] is _P.ZERO else args[0]


def _clipped(signs: Mapping[str, bool | None]) -> Callable[..., Parity | None]:
    """``clip(x, -h, h)`` for h >= 0 is as x is, and so is ``max(min(x, h), -h)`` either way round."""

    def row(expr: Apply, args: list[Parity | None], parity: Callable[[Expr], Parity | None]) -> Parity | None:
        for x, low, high in _clips(expr):
            even = [parity(low), parity(high)]
            opposite = apply("neg", high) == low or apply("neg", low) == high
            if opposite and not {None, _P.ODD} & {*even} and NOT_NEGATIVE.value(high, signs):
                return parity(x)
        return _joined_even(args)

    return row


def _clips(expr: Apply) -> Iterator[tuple[Expr, Expr, Expr]]:
    """(x, low, high) of what ``expr`` may clip."""
    if expr.op == "clip":
        x, low, high = expr.args
        yield x, low, high
        return
    for inner, bound in (expr.args, expr.args[::-1]):
        if isinstance(inner, Apply) and inner.op == {"min": "max", "max": "min"}[expr.op]:
            for x, other in (inner.args, inner.args[::-1]):
                yield (x, bound, other) if expr.op == "max" else (x, other, bound)


def _p_where(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return None if args[0] is None else _joined(args[1:])


_ROWS: dict[str, Callable[..., Parity | None]] = {
    **dict.fromkeys(("add", "sub"), _p_sum),
    "mul": _p_product,
    "div": _p_quotient,
    "pow": _p_power,
    "spow": _p_signed_power,
    **dict.fromkeys(("neg", "sign", "cube", "tanh", "sinh", "asinh", "erf"), _p_kept),
    **dict.fromkeys(("mean", "row_mean", "col_mean", "orthogonalise"), _p_kept),
    **dict.fromkeys(("abs", "square", "ssqrt", "rms", "norm"), _p_even),
    "slog": _p_never_zero,
    **dict.fromkeys(("sqrt", "relu", "greater"), _p_lopsided),
    **dict.fromkeys(("exp", "log", "erfc"), _p_lopsided_never_zero),
    "where": _p_where,
}
