"""Tidy an expression: fold constants, gather sums and factors. Quick and exact up to rounding, unlike SymPy's simplify.

Genetic programming leaves trees such as ``0.9*(2*(x + 0) + -1*y)``; this makes ``1.8*x - 0.9*y`` of it. Nothing is
expanded that has no constant to take in, so an expression never grows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch

from closedform.lang import OPERATORS, Apply, Expr, Number, apply, complexity, evaluate

ONE, ZERO = Number(1), Number(0)
_HOMOGENEOUS: dict[str, Callable[[float], float | None]] = {
    "square": lambda factor: factor**2,
    "cube": lambda factor: factor**3,
    "abs": abs,
    "ssqrt": lambda factor: math.sqrt(abs(factor)),
    "sqrt": lambda factor: math.sqrt(factor) if factor > 0 else None,
    "relu": lambda factor: factor if factor > 0 else None,
}
"""Operators f with f(c*x) = h(c)*f(x): h."""


def tidy(expr: Expr) -> Expr:
    """An equal expression of at most the same complexity."""
    best = expr
    for _ in range(4):  # a pass can make room for another; a few are enough
        found = _finish(_tidy(best))
        if complexity(found) > complexity(best):
            break
        if complexity(found) == complexity(best):
            return found  # written more plainly
        best = found
    return best


def _tidy(expr: Expr) -> Expr:
    if not isinstance(expr, Apply):
        return expr
    args = tuple(_tidy(arg) for arg in expr.args)
    folded = _fold(expr.op, args)
    if folded is not None:
        return folded
    if expr.op in ("add", "sub", "neg"):
        return _build_sum(*_sum_terms(apply(expr.op, *args)))
    if expr.op in ("mul", "div"):
        return _product(expr.op, args)
    if expr.op in _HOMOGENEOUS:
        factor, rest = split_factor(args[0])
        outer = _HOMOGENEOUS[expr.op](factor)
        if factor != 1 and outer is not None:  # square(2*x) is 4*square(x), and the 4 may join other factors
            return scaled(outer, apply(expr.op, rest))
    return apply(expr.op, *args)


def _fold(op: str, args: tuple[Expr, ...]) -> Expr | None:
    if not all(isinstance(arg, Number) for arg in args) or OPERATORS[op].reduces:
        return None
    value = float(evaluate(apply(op, *args), {}).to(torch.float64))
    return Number(value) if math.isfinite(value) else None


def split_factor(expr: Expr) -> tuple[float, Expr]:
    """An expression as a number times the rest."""
    if isinstance(expr, Number):
        return expr.value, ONE
    if isinstance(expr, Apply):
        if expr.op == "neg":
            factor, rest = split_factor(expr.args[0])
            return -factor, rest
        if expr.op == "mul" and isinstance(expr.args[0], Number):
            return expr.args[0].value, expr.args[1]
    return 1.0, expr


def scaled(factor: float, expr: Expr) -> Expr:
    """``factor * expr`` in its shortest form; a factor goes into a sum where that saves nodes."""
    if factor == 0:
        return ZERO
    inner, rest = split_factor(expr)
    factor *= inner
    if not math.isfinite(factor):
        return Apply("mul", (Number(factor / inner), expr))
    if rest == ONE:
        return Number(factor)
    if isinstance(rest, Apply) and rest.op in ("add", "sub"):
        terms, constant = _sum_terms(rest)
        before = sum(abs(weight) != 1 for _, weight in terms)
        after = sum(abs(factor * weight) != 1 for _, weight in terms)
        if factor != 1 and after <= before:  # the factor's own two nodes are saved
            return _build_sum([(term, factor * weight) for term, weight in terms], factor * constant)
    return rest if factor == 1 else apply("mul", Number(factor), rest)


def _sum_terms(expr: Expr, factor: float = 1.0) -> tuple[list[tuple[Expr, float]], float]:
    """A sum as terms with weights, equal terms gathered, and a constant."""
    if isinstance(expr, Apply) and expr.op in ("add", "sub"):
        left, first = _sum_terms(expr.args[0], factor)
        right, second = _sum_terms(expr.args[1], factor if expr.op == "add" else -factor)
        gathered: dict[Expr, float] = {}
        for term, weight in (*left, *right):
            gathered[term] = gathered.get(term, 0.0) + weight
        return [(term, weight) for term, weight in gathered.items() if weight], first + second
    weight, rest = split_factor(expr)
    if rest == ONE:
        return [], factor * weight
    if isinstance(rest, Apply) and rest.op in ("add", "sub"):
        return _sum_terms(rest, factor * weight)
    return [(rest, factor * weight)], 0.0


def _build_sum(terms: list[tuple[Expr, float]], constant: float) -> Expr:
    if not terms:
        return Number(constant)
    weights = {abs(weight) for _, weight in terms}
    if (
        len(terms) > 1 and not constant and len(weights) == 1 and weights != {1.0}
    ):  # 0.5*x - 0.5*y: one factor is shorter
        (common,) = weights
        return apply("mul", Number(common), _build_sum([(term, weight / common) for term, weight in terms], 0.0))
    parts = [scaled(weight, term) for term, weight in terms]
    if constant:
        parts.append(Number(constant))
    return functools.reduce(functools.partial(apply, "add"), parts)


def _product(op: str, args: tuple[Expr, ...]) -> Expr:
    (first, left), (second, right) = split_factor(args[0]), split_factor(args[1])
    if op == "div" and second == 0:
        return apply(op, *args)
    factor = first * second if op == "mul" else first / second
    if not math.isfinite(factor) or (factor == 0 and first):
        return apply(op, *args)
    if right == ONE:
        return scaled(factor, left)
    if left == ONE and op == "mul":
        return scaled(factor, right)
    if left == ONE:  # a quotient keeps its factor above
        return apply("div", Number(factor), right)
    return scaled(factor, apply(op, left, right))


def _finish(expr: Expr) -> Expr:
    """Write negative terms of sums as differences, and -1 times x as -x."""
    if not isinstance(expr, Apply):
        return expr
    args = tuple(_finish(arg) for arg in expr.args)
    if expr.op == "mul" and args[0] == Number(-1):
        return apply("neg", args[1])
    if expr.op == "add":
        factor, rest = split_factor(args[1])
        if factor < 0:
            return apply("sub", args[0], Number(-factor) if rest == ONE else scaled_plainly(-factor, rest))
        factor, rest = split_factor(args[0])
        if factor < 0 and rest != ONE:
            return apply("sub", args[1], scaled_plainly(-factor, rest))
    return apply(expr.op, *args)


def scaled_plainly(factor: float, rest: Expr) -> Expr:
    """``factor * rest`` without looking inside."""
    return rest if factor == 1 else apply("mul", Number(factor), rest)
