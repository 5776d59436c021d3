"""Programs run on abstract values, to prove what holds at every step; and parts made of numbers alone, known at once.

Instead of numbers a domain has values that stand for a property: even or odd, a degree of scaling, never negative.
States start at 0, or at their initial value, and what a state may be is joined with what its recurrence makes of it
until nothing changes. What holds then holds at every step. Nothing here guesses: a value of which nothing is known is
``None``.

References: Cousot & Cousot 1977, Abstract interpretation (fixed points over joined values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol, apply, children
from closedform.lang._interpreter import evaluate
from closedform.lang._kinds import reduces
from closedform.lang._operators import OPERATORS
from closedform.lang._program import Program

V = TypeVar("V")


@dataclass(frozen=True)
class Domain(Generic[V]):
    """Abstract values of one analysis: of 0, of another number, joined, and under an operator.

    A row takes the expression, the values of its arguments, and a function that gives the value of an expression.
    """

    zero: V
    number: Callable[[float], V]
    join: Callable[[V, V], V | None]
    rows: Mapping[str, Callable[..., V | None]]

    def value(self, expr: Expr, known: Mapping[str, V | None]) -> V | None:
        """Of an expression, given those of its names; a lagged name is 0 at first, or what the name is."""
        if isinstance(expr, Number):
            return self.number(expr.value) if expr.value else self.zero
        if not isinstance(expr, Apply):
            return known.get(expr.name)
        args = [self.value(arg, known) for arg in expr.args]
        row = self.rows.get(expr.op)
        return row(expr, args, lambda part: self.value(part, known)) if row else None


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
            known[name] = joined(domain, known[name], domain.value(expr, known))
        if known == before:
            return known | {name: domain.value(expr, known) for name, expr in program.outputs.items()}


def joined(domain: Domain[V], x: V | None, y: V | None) -> V | None:
    return None if x is None or y is None else domain.join(x, y)


def constant_value(expr: Expr) -> float | None:
    """The value of an expression without names; None if it has any, or reduces over a tensor."""
    if isinstance(expr, Number):
        return expr.value
    stack: list[Expr] = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, (Symbol, Lag)) or reduces(node):
            return None
        stack.extend(children(node))
    return float(evaluate(expr, {}))


def nonfinite_constant(expr: Expr) -> Expr | None:
    """The first largest part made of numbers alone whose value is NaN or infinite; None if there is none."""
    constant: dict[int, bool] = {}
    _mark(expr, constant)
    stack = [expr]
    while stack:
        node = stack.pop()
        if not constant[id(node)]:
            stack.extend(reversed(children(node)))
        elif isinstance(node, Apply) and not math.isfinite(float(evaluate(node, {}))):
            return node
    return None


def _mark(expr: Expr, constant: dict[int, bool]) -> bool:
    """Note of every node whether it is made of numbers alone."""
    inner = [_mark(child, constant) for child in children(expr)]
    found = isinstance(expr, Number) or (isinstance(expr, Apply) and all(inner) and not reduces(expr))
    constant[id(expr)] = found
    return found
