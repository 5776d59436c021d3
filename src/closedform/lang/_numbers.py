"""Parts of an expression that are made of numbers alone: ``2*3``, ``9**9**9``. They have one value, known at once."""

from __future__ import annotations

import math

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol, children
from closedform.lang._interpreter import evaluate
from closedform.lang._kinds import reduces


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
