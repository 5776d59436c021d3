"""Symmetries of a program, proved over its expressions: parity under a change of sign, degree under a change of scale.

The program is run once on abstract values instead of numbers. For parity a value is even, odd, or neither when some
inputs change sign; for degree it is c**k times itself when inputs are multiplied by powers of c > 0. States start at 0,
which is even and odd and of every degree, and what a state may be is joined with what its recurrence makes of it until
nothing changes. What holds then holds at every step: Adam's m is odd and of degree 1, its v even and of degree 2, its
update odd and of degree 0.

A row an operator and analysis. Nothing here guesses: a value of which nothing is known is ``None``.

References: Cousot & Cousot 1977, Abstract interpretation (fixed points over joined values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import torch

from closedform.lang._expression import Apply, Expr, Number, Symbol, apply
from closedform.lang._inputs import LATE_INPUTS
from closedform.lang._operators import OPERATORS
from closedform.lang._program import Program

FLOOR = 1e-4
"""The largest constant that counts as a floor where it is added to what is never negative: an eps."""
EPS, MATRICES = "eps", "matrices"
"""Reservations under which a degree holds: but for a floor; for matrices only, as ``orthogonalise`` is."""

V = TypeVar("V")


class Parity(Enum):
    """How a value answers when the inputs named odd change sign; ``ZERO`` is both."""

    ZERO = 0
    EVEN = 1
    ODD = 2


@dataclass(frozen=True)
class Degree:
    """A value is multiplied by c**power; ``None`` is 0, of every degree.

    Attributes:
        power: The degree.
        but_for: Reservations: ``EPS``, ``MATRICES``.
    """

    power: float | None
    but_for: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Domain(Generic[V]):
    """Abstract values of one analysis: of 0, of another number, joined, and under an operator."""

    zero: V
    number: Callable[[float], V]
    join: Callable[[V, V], V | None]
    rows: Mapping[str, Callable[..., V | None]]

    def value(self, expr: Expr, known: Mapping[str, V | None]) -> V | None:
        """Of an expression, given those of its names; a lagged name is 0 at first, or what the name is."""
        if isinstance(expr, Number):
            return self.number(expr.value) if expr.value else self.zero
        if not isinstance(expr, Apply):
            return known[expr.name]
        args = [self.value(arg, known) for arg in expr.args]
        row = self.rows.get(expr.op)
        return row(expr, args, known) if row else None


def folded(program: Program) -> Program:
    """The live program with constants put in, and what is made of numbers alone worked out."""
    live = program.live

    def fold(expr: Expr) -> Expr:
        if isinstance(expr, Symbol) and expr.name in live.constants:
            return Number(live.constants[expr.name])
        if not isinstance(expr, Apply):
            return expr
        args = [fold(arg) for arg in expr.args]
        if all(isinstance(arg, Number) for arg in args) and not OPERATORS[expr.op].reduces:
            values = [torch.tensor(arg.value, dtype=torch.float64) for arg in args if isinstance(arg, Number)]
            value = float(OPERATORS[expr.op].torch(*values))
            if math.isfinite(value):
                return Number(value)
        return apply(expr.op, *args)

    sections = (live.state, live.where, live.outputs, live.init)
    return Program({}, *({name: fold(expr) for name, expr in section.items()} for section in sections))


def fixed_point(program: Program, inputs: Mapping[str, V | None], domain: Domain[V]) -> dict[str, V | None]:
    """What every input, state, named value and output of a folded program is at every step."""
    known: dict[str, V | None] = {**inputs, **dict.fromkeys((*program.state, *program.where), domain.zero)}
    known |= {name: domain.value(expr, inputs) for name, expr in program.init.items()}
    definitions = {**program.state, **program.where}
    while True:  # a value changes twice at most: from 0 to something, from there to nothing known
        before = dict(known)
        for name, expr in definitions.items():
            known[name] = _joined(domain, known[name], domain.value(expr, known))
        if known == before:
            return known | {name: domain.value(expr, known) for name, expr in program.outputs.items()}


def parities(program: Program, odd: Sequence[str] = ("g",)) -> dict[str, Parity | None]:
    """How the names and outputs of a program answer when the inputs ``odd`` change sign at every step."""
    inputs = {name: Parity.ODD if name in odd else Parity.EVEN for name in ("g", "w", "t", *LATE_INPUTS)}
    return fixed_point(folded(program), inputs, PARITY)


def degrees(program: Program, powers: Mapping[str, float]) -> dict[str, Degree | None]:
    """Degrees of the names and outputs of a program when inputs are multiplied by c**power at every step, c > 0.

    Args:
        program: The program.
        powers: Input -> power, such as ``{"g": 1}``; the other inputs stay.
    """
    program = folded(program)
    inputs = {name: Degree(powers.get(name, 0.0)) for name in ("g", "w", "t", *LATE_INPUTS)}
    signs = fixed_point(program, dict.fromkeys(inputs, None) | dict.fromkeys(("t", *LATE_INPUTS), True), NOT_NEGATIVE)
    rows = {name: _with_floors(row, signs) if name in _FLOORED else row for name, row in _DEGREE_ROWS.items()}
    return fixed_point(program, inputs, Domain(Degree(None), lambda _: Degree(0.0), _same_degree, rows))


def _joined(domain: Domain[V], x: V | None, y: V | None) -> V | None:
    return None if x is None or y is None else domain.join(x, y)


# Parity: rows take (expression, parities of the arguments, parities of names).

_P = Parity


def _same_parity(x: Parity, y: Parity) -> Parity | None:
    if x is y or y is _P.ZERO:
        return x
    return y if x is _P.ZERO else None


def _p_sum(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return _joined(PARITY, *args)


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


def _p_clip(expr: Apply, args: list[Parity | None], _: object) -> Parity | None:
    low, high = expr.args[1:]
    opposite = apply("neg", high) == low or apply("neg", low) == high
    if args[0] is _P.ODD and opposite and args[1] is not None and args[1] is not _P.ODD:
        return _P.ODD
    return _joined_even(args)


def _p_smaller(expr: Apply, args: list[Parity | None], known: Mapping[str, Parity | None]) -> Parity | None:
    """``max(min(x, h), -h)``, either way round, is odd as ``clip(x, -h, h)`` is."""
    inner_op = {"min": "max", "max": "min"}[expr.op]
    for inner, bound in (expr.args, expr.args[::-1]):
        if isinstance(inner, Apply) and inner.op == inner_op:
            for x, other in (inner.args, inner.args[::-1]):
                low, high = (bound, other) if expr.op == "max" else (other, bound)
                clip = Apply("clip", (x, low, high))
                found = _p_clip(clip, [PARITY.value(part, known) for part in clip.args], known)
                if found is _P.ODD:
                    return found
    return _joined_even(args)


def _p_where(_: Expr, args: list[Parity | None], __: object) -> Parity | None:
    return None if args[0] is None else _joined(PARITY, *args[1:])


_PARITY_ROWS: dict[str, Callable[..., Parity | None]] = {
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
    **dict.fromkeys(("min", "max"), _p_smaller),
    "clip": _p_clip,
    "where": _p_where,
}
PARITY: Domain[Parity] = Domain(_P.ZERO, lambda _: _P.EVEN, _same_parity, _PARITY_ROWS)


# Not negative: True, or None where it is not known. 0 is True too.


def _n_all(_: Expr, args: list[bool | None], __: object) -> bool | None:
    return True if all(args) else None


def _n_always(_: Expr, __: object, ___: object) -> bool | None:
    return True


def _n_any(_: Expr, args: list[bool | None], __: object) -> bool | None:
    return True if any(args) else None


def _n_difference(expr: Apply, _: object, __: object) -> bool | None:
    """``1 - beta**t``, which undoes an average's start at 0."""
    first, second = expr.args
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


# Degree.


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
            small = isinstance(floor, Number) and 0 < floor.value <= FLOOR
            if small and degree is not None and degree.power and NOT_NEGATIVE.value(other, signs):
                return Degree(degree.power, degree.but_for | {EPS})
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
    return x if x is None or not x.power else Degree(0.0, x.but_for | {MATRICES, EPS})


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
