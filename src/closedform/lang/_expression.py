"""Expressions: a small immutable tree of numbers, names, lags and operator applications.

``beta1*m + (1 - beta1)*g`` is ``add(mul(beta1, m), mul(sub(1, beta1), g))``. Trees compare and hash by value, so that
equal sub-expressions are found by a dictionary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from closedform.errors import ExpressionError
from closedform.lang._operators import OPERATORS


@dataclass(frozen=True, slots=True)
class Number:
    """A literal constant; finite."""

    value: float

    def __post_init__(self) -> None:
        value = float(self.value)
        if not math.isfinite(value):
            raise ExpressionError(f"constant {self.value!r} is not finite")
        object.__setattr__(self, "value", value + 0.0)  # -0.0 becomes 0.0: it prints as 0


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name: an input (g, w, t), a constant, a state or a named value."""

    name: str


@dataclass(frozen=True, slots=True)
class Lag:
    """The signal ``name``, ``steps`` steps ago (steps >= 1); 0 before the start. ``prev(m)`` is ``Lag("m", 1)``."""

    name: str
    steps: int


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator applied to its arguments. Build it with `apply`, which checks them."""

    op: str
    args: tuple[Expr, ...]


Expr: TypeAlias = Number | Symbol | Lag | Apply


def apply(op: str, *args: Expr) -> Expr:
    """Apply an operator; a negated number becomes a negative number, as the parser reads it.

    Raises:
        ExpressionError: no such operator, or the wrong number of arguments.
    """
    row = OPERATORS.get(op)
    if row is None:
        raise ExpressionError(f"unknown operator {op!r} (known: {', '.join(sorted(OPERATORS))})")
    if len(args) != row.arity:
        raise ExpressionError(f"{op} takes {row.arity} argument{'s' * (row.arity != 1)}, got {len(args)}")
    if op == "neg" and isinstance(args[0], Number):
        return Number(-args[0].value)
    return Apply(op, args)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions."""
    return expr.args if isinstance(expr, Apply) else ()


def walk(expr: Expr) -> Iterator[Expr]:
    """All nodes, parents before children, left to right."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def complexity(expr: Expr) -> int:
    """Number of nodes: every operator, name, lagged name and constant counts 1 (paper, section on complexity)."""
    return sum(1 for _ in walk(expr))


def depth(expr: Expr) -> int:
    """Number of nodes on the longest path from the root to a leaf."""
    deepest, stack = 0, [(expr, 1)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in children(node))
    return deepest


def names(expr: Expr) -> set[str]:
    """Names read at the present step (lagged reads are in `lags`)."""
    return {node.name for node in walk(expr) if isinstance(node, Symbol)}


def lags(expr: Expr) -> dict[str, int]:
    """For each lagged name, the deepest lag read, in steps."""
    deepest: dict[str, int] = {}
    for node in walk(expr):
        if isinstance(node, Lag):
            deepest[node.name] = max(deepest.get(node.name, 0), node.steps)
    return deepest


def transform(expr: Expr, leaf: Callable[[Expr], Expr]) -> Expr:
    """Rebuild the tree with every leaf (number, name, lag) replaced by ``leaf(node)``."""
    if isinstance(expr, Apply):
        return apply(expr.op, *(transform(child, leaf) for child in expr.args))
    return leaf(expr)


def substitute(expr: Expr, values: Mapping[str, Expr | float]) -> Expr:
    """Replace names by numbers or expressions; lagged names stay as they are."""

    def leaf(node: Expr) -> Expr:
        if isinstance(node, Symbol) and node.name in values:
            value = values[node.name]
            return Number(value) if isinstance(value, (int, float)) else value
        return node

    return transform(expr, leaf)


def rename(expr: Expr, new: Mapping[str, str]) -> Expr:
    """Rename names, lagged ones too."""

    def leaf(node: Expr) -> Expr:
        if isinstance(node, Symbol):
            return Symbol(new.get(node.name, node.name))
        if isinstance(node, Lag):
            return Lag(new.get(node.name, node.name), node.steps)
        return node

    return transform(expr, leaf)
