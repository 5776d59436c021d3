"""The odd part of a rule: what is left of it when whatever does not turn with the gradient is taken out.

    u_odd(g) = (u(g) - u(-g))/2

A network's updates are not quite odd in the gradient, and an equation that follows it in that has a drift: it moves
where there is no gradient, in a direction that only the meta-training tasks asked for. An odd update is 0 where the
gradient always was. It is worked out term by term, so that of ``0.001 - 0.2*m`` the odd part is ``-0.2*m`` and not the
difference of two copies; only a function of both kinds of terms is written out twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from closedform.lang import Apply, Expr, Lag, Number, Parity, Program, Symbol, apply, parities, transform
from closedform.rules import Rule


def odd_rule(rule: Rule) -> Rule | None:
    """The rule with the odd part of its update; None if that is 0, or nothing is known of what the update reads."""
    program = rule.program
    found = _Halves(program, parities(program)).split(program.outputs["update"])
    if found is None or found.odd is None:
        return None
    return rule if found.even is None else replace(rule, program=replace(program, outputs={"update": found.odd}).live)


@dataclass(frozen=True)
class _Parts:
    """An expression as a sum; None is 0."""

    even: Expr | None
    odd: Expr | None


@dataclass(frozen=True)
class _Halves:
    program: Program
    known: dict[str, Parity | None]

    def split(self, expr: Expr) -> _Parts | None:
        """The parts of an expression; None if one of its names has no known parity."""
        if isinstance(expr, Number):
            return _Parts(expr, None) if expr.value else _Parts(None, None)
        if isinstance(expr, (Symbol, Lag)):
            return self.of_name(expr)
        assert isinstance(expr, Apply)
        args = [self.split(arg) for arg in expr.args]
        known = [arg for arg in args if arg is not None]
        return self.of_operator(expr, known) if len(known) == len(args) else None

    def of_name(self, expr: Symbol | Lag) -> _Parts | None:
        parity = self.known.get(expr.name, Parity.ODD if expr.name == "g" else Parity.EVEN)
        if parity is None:
            return None
        return _Parts(expr if parity is Parity.EVEN else None, expr if parity is Parity.ODD else None)

    def of_operator(self, expr: Apply, args: list[_Parts]) -> _Parts:
        if expr.op in ("add", "sub"):
            return _Parts(_sum(expr.op, args[0].even, args[1].even), _sum(expr.op, args[0].odd, args[1].odd))
        if expr.op == "neg":
            return _Parts(_negated(args[0].even), _negated(args[0].odd))
        if expr.op == "mul":
            x, y = args
            even = _sum("add", _product(x.even, y.even), _product(x.odd, y.odd))
            return _Parts(even, _sum("add", _product(x.even, y.odd), _product(x.odd, y.even)))
        if expr.op == "div" and args[1].odd is None and args[1].even is not None:
            x, below = args[0], args[1].even
            return _Parts(*(None if part is None else apply("div", part, below) for part in (x.even, x.odd)))
        return self.of_function(expr, args)

    def of_function(self, expr: Apply, args: list[_Parts]) -> _Parts:
        program = replace(self.program, outputs={"update": expr})
        parity = parities(program)["update"]
        if parity is not None:
            return _Parts(expr if parity is Parity.EVEN else None, expr if parity is Parity.ODD else None)
        mirrored = transform(expr, self.mirrored)
        even, odd = (apply("div", apply(op, expr, mirrored), Number(2)) for op in ("add", "sub"))
        of_odd = expr.op == "exp" and args[0].even is None
        return _Parts(even, apply("sinh", *expr.args) if of_odd else odd)

    def mirrored(self, leaf: Expr) -> Expr:
        odd = isinstance(leaf, (Symbol, Lag)) and self.of_name(leaf) == _Parts(None, leaf)
        return apply("neg", leaf) if odd else leaf


def _sum(op: str, x: Expr | None, y: Expr | None) -> Expr | None:
    if y is None:
        return x
    if x is None:
        return y if op == "add" else _negated(y)
    return apply(op, x, y)


def _product(x: Expr | None, y: Expr | None) -> Expr | None:
    return None if x is None or y is None else apply("mul", x, y)


def _negated(x: Expr | None) -> Expr | None:
    return None if x is None else apply("neg", x)
