"""Expressions and programs as mathematics, in the order they are written.

What is the same however it is put down is here: brackets and signs, by how tightly operators bind, and the time index
of every name of a program. A `Notation` puts the pieces down: `closedform.lang._latex`, `closedform.lang._mathml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol
from closedform.lang._program import Program

SUM, PRODUCT, UNARY, POWER, ATOM = range(1, 6)
"""How tightly something binds, from loosely to tightly."""
GREEK = dict(
    zip(
        "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega".split(),
        "αβγδεζηθκλμνξρστφχψω",
        strict=True,
    )
)
"""Letters that are spelled out in names."""
ACCENTS = {"hat": "^", "tilde": "~", "bar": "¯", "dot": "˙"}
"""Parts of names that stand over what they follow."""


class Shown(NamedTuple):
    """A piece put down.

    Attributes:
        text: It, in the notation.
        binds: How tightly.
        signed: Whether it opens with a minus sign.
    """

    text: str
    binds: int = ATOM
    signed: bool = False


class Notation(Protocol):
    """How the pieces are put down."""

    def symbol(self, name: str, time: str) -> str:
        """A name with its time index, which may be empty."""

    def number(self, value: float) -> Shown:
        """A number that is not negative."""

    def negative(self, text: str) -> str:
        """Minus something."""

    def infix(self, left: str, sign: str, right: str) -> str:
        """Two pieces with ``+``, ``-`` or ``>`` between them."""

    def product(self, left: str, right: str) -> str:
        """Two factors."""

    def fraction(self, above: str, below: str) -> str:
        """A fraction."""

    def power(self, base: str, exponent: str) -> str:
        """A power."""

    def root(self, inside: str) -> str:
        """A square root."""

    def fenced(self, inside: str, left: str, right: str) -> str:
        """Something in brackets: ``()``, ``[]``, ``||`` or ``‖‖``."""

    def call(self, op: str, args: Sequence[str]) -> str:
        """An operator without a notation of its own, by its name."""

    def group(self, text: str) -> str:
        """A sum or product that is a part of something larger."""


@dataclass(frozen=True)
class Typesetter:
    """Puts expressions down in a notation.

    Attributes:
        notation: The notation.
        times: Time index of each name that has one, ``{"g": "t", "m": "t-1"}``; a lag by k is shown as ``t-k``.
    """

    notation: Notation
    times: Mapping[str, str]

    def shown(self, expr: Expr) -> Shown:
        """An expression, put down."""
        if isinstance(expr, Number):
            return self._number(expr.value)
        if isinstance(expr, Symbol):
            return Shown(self.notation.symbol(expr.name, self.times.get(expr.name, "")))
        if isinstance(expr, Lag):
            return Shown(self.notation.symbol(expr.name, f"t-{expr.steps}"))
        return self._apply(expr.op, *expr.args)

    def _number(self, value: float) -> Shown:
        found = self.notation.number(abs(value))
        return Shown(self.notation.negative(found.text), UNARY, True) if value < 0 else found

    def _apply(self, op: str, *args: Expr) -> Shown:
        write, first, last = self.notation, args[0], args[-1]
        if op in ("add", "sub"):
            left = self._part(first, SUM)
            right = self._part(last, SUM if op == "add" else PRODUCT, signed=False)
            return Shown(write.infix(left.text, "+" if op == "add" else "-", right.text), SUM, left.signed)
        if op == "mul":
            left, right = self._part(first, PRODUCT), self._part(last, PRODUCT, signed=False)
            return Shown(write.product(left.text, right.text), PRODUCT, left.signed)
        if op == "div":
            return self._fraction(first, last)
        if op == "neg":
            return Shown(write.negative(self._part(first, PRODUCT, signed=False).text), UNARY, True)
        if op in ("square", "cube", "pow"):
            exponent = self.shown(last if op == "pow" else Number(2 if op == "square" else 3))
            return Shown(write.power(self._part(first, ATOM).text, exponent.text), POWER)
        inside = [self.shown(arg).text for arg in args]
        if op == "sqrt":
            return Shown(write.root(inside[0]))
        if op == "ssqrt":
            return Shown(write.root(write.fenced(inside[0], "|", "|")))
        if op == "abs":
            return Shown(write.fenced(inside[0], "|", "|"))
        if op == "norm":
            return Shown(write.fenced(inside[0], "‖", "‖"))
        if op == "greater":
            return Shown(write.fenced(write.infix(inside[0], ">", inside[1]), "[", "]"))
        return Shown(write.call(op, inside))

    def _fraction(self, above: Expr, below: Expr) -> Shown:
        """A minus over the line is put before the fraction; two are none."""
        minus = False
        while isinstance(above, Apply) and above.op == "neg":
            above, minus = above.args[0], not minus
        text = self.notation.fraction(self.shown(above).text, self.shown(below).text)
        return Shown(self.notation.negative(text), UNARY, True) if minus else Shown(text, PRODUCT)

    def _part(self, expr: Expr, at_least: int, signed: bool = True) -> Shown:
        """An operand, in brackets if it binds less tightly than ``at_least``, or if it is signed and may not be."""
        found = self.shown(expr)
        if found.binds < at_least or (found.signed and not signed):
            return Shown(self.notation.fenced(found.text, "(", ")"))
        return found._replace(text=self.notation.group(found.text)) if found.binds in (SUM, PRODUCT) else found


class Equation(NamedTuple):
    """A line of a program: a name at a time is an expression, whose names have times of their own."""

    name: str
    time: str
    expr: Expr
    times: Mapping[str, str]


def equations(program: Program) -> dict[str, list[Equation]]:
    """The lines of a program by its sections: ``init``, ``state``, ``where``, ``outputs``.

    At step t the gradient and all values are those of t, in recurrences the states those of t-1; the parameter is
    always that of t-1, since the step ends with the new one.
    """
    now = dict.fromkeys(["g", *program.state, *program.where], "t") | {"w": "t-1"}
    before = now | dict.fromkeys(program.state, "t-1")
    return {
        "init": [Equation(name, "0", expr, {"g": "1", "w": "0"}) for name, expr in program.init.items()],
        "state": [Equation(name, "t", expr, before) for name, expr in program.state.items()],
        "where": [Equation(name, "t", expr, now) for name, expr in program.where.items()],
        "outputs": [Equation(name, "t", expr, now) for name, expr in program.outputs.items()],
    }
