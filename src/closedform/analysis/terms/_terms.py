"""The update of a rule as a sum of terms.

Sums at the top are taken apart, also inside a named value, and in front of a common factor or divisor where all of
their terms have something of the parameter in them: ``-(m + g)/sqrt(v)`` is two terms, ``(1 - progress)*m`` is one.
"""

from __future__ import annotations

from closedform.lang import Apply, Expr, Lag, Program, Symbol, apply, walk
from closedform.rules import Rule

MOST = 12
"""Terms that an update is taken apart into; one of more stays whole."""


def terms_of(rule: Rule) -> tuple[Expr, ...]:
    """The terms of a rule's update: their sum is the update."""
    program = rule.program.live
    found = _Splitter(program).terms(rule.update)
    return tuple(found) if len(found) <= MOST else (rule.update,)


class _Splitter:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.moving = {"g", "w", *program.state}
        for name, expr in program.where.items():  # each may use those before it
            if self.moves(expr):
                self.moving.add(name)

    def moves(self, expr: Expr) -> bool:
        """Whether it differs between parameters."""
        return any(isinstance(node, (Symbol, Lag)) and node.name in self.moving for node in walk(expr))

    def terms(self, expr: Expr) -> list[Expr]:
        if isinstance(expr, Symbol) and expr.name in self.program.where:
            inside = self.terms(self.program.where[expr.name])
            return inside if len(inside) > 1 else [expr]
        if not isinstance(expr, Apply):
            return [expr]
        if expr.op == "neg":
            return [_negative(term) for term in self.terms(expr.args[0])]
        if expr.op in ("add", "sub"):
            second = self.terms(expr.args[1])
            found = [*self.terms(expr.args[0]), *(second if expr.op == "add" else map(_negative, second))]
            return found if all(map(self.moves, found)) else [expr]
        if expr.op in ("mul", "div"):
            return self.factored(expr)
        return [expr]

    def factored(self, expr: Apply) -> list[Expr]:
        first, second = expr.args
        inside = self.terms(first)
        if len(inside) > 1:
            return [apply(expr.op, term, second) for term in inside]
        inside = self.terms(second) if expr.op == "mul" else []
        return [apply("mul", first, term) for term in inside] if len(inside) > 1 else [expr]


def _negative(expr: Expr) -> Expr:
    return expr.args[0] if isinstance(expr, Apply) and expr.op == "neg" else apply("neg", expr)
