"""What a value varies over: nothing, tensors, rows, columns or single parameters."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from enum import IntEnum

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol
from closedform.lang._operators import OPERATORS


class Kind(IntEnum):
    """What a value varies over; an operator's result varies over all that its arguments vary over (`join`)."""

    UNIFORM = 0
    """The same for all parameters with the same step: made of constants and t."""
    PER_TENSOR = 1
    """One number a parameter tensor: a reduction, and what is made of it."""
    ROWWISE = 3
    """One number a row of the parameter tensor as a matrix: a row mean, and what is made of it."""
    COLUMNWISE = 5
    """One number a column."""
    ELEMENTWISE = 7
    """One number a parameter; also a row kind and a column kind together."""

    @property
    def varies(self) -> bool:
        """Whether it varies over a parameter tensor."""
        return self > Kind.PER_TENSOR


def join(kinds: Iterable[Kind]) -> Kind:
    """What a value made of values of these kinds varies over."""
    return Kind(functools.reduce(operator.or_, kinds, 0))


_RESULTS = {
    "tensor": Kind.PER_TENSOR,
    "row": Kind.ROWWISE,
    "column": Kind.COLUMNWISE,
    "matrix": Kind.ELEMENTWISE,
}


def reduces(node: Expr) -> bool:
    """Whether an expression's outermost operator makes elements of a tensor depend on each other."""
    return isinstance(node, Apply) and OPERATORS[node.op].reduces


def kind_of(expr: Expr, kinds: Mapping[str, Kind]) -> Kind:
    """The kind of an expression, given the kinds of the names in it."""
    if isinstance(expr, Number):
        return Kind.UNIFORM
    if isinstance(expr, (Symbol, Lag)):
        return kinds.get(expr.name, Kind.UNIFORM)
    return result_kind(expr.op, (kind_of(arg, kinds) for arg in expr.args))


def result_kind(op: str, args: Iterable[Kind]) -> Kind:
    """The kind of an operator's result, given the kinds of its arguments."""
    over = OPERATORS[op].over if op in OPERATORS else ""
    return _RESULTS[over] if over else join(args)


def exposed(exprs: Iterable[Expr]) -> tuple[set[str], Kind]:
    """What the kind of expressions together depends on: names outside reductions, and the kinds of those reductions."""
    read, kinds, stack = set[str](), [Kind.UNIFORM], list(exprs)
    while stack:
        node = stack.pop()
        if isinstance(node, (Symbol, Lag)):
            read.add(node.name)
        elif isinstance(node, Apply) and reduces(node):
            kinds.append(result_kind(node.op, ()))
        elif isinstance(node, Apply):
            stack.extend(node.args)
    return read, join(kinds)
