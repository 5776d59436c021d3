"""Operon's expression trees as expressions of the rule language.

A tree is a list of nodes in postfix order in which the *last* operand written is the first argument. Every variable
carries a weight. Nodes are read one by one; nothing is parsed from text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from closedform.errors import DistillationError
from closedform.lang import Expr, Number, apply

SYMBOLS: dict[str, tuple[str, ...]] = {
    "add": ("add",),
    "sub": ("sub",),
    "mul": ("mul",),
    "div": ("aq", "div"),
    "pow": ("pow",),
    "abs": ("abs",),
    "sqrt": ("sqrt",),
    "ssqrt": ("sqrtabs",),
    "square": ("square",),
    "exp": ("exp",),
    "log": ("log",),
    "tanh": ("tanh",),
    "sinh": ("sinh",),
    "min": ("fmin", "fmax"),  # pyoperon 0.6 swaps the two when they are asked for: always ask for both
    "max": ("fmin", "fmax"),
    "relu": ("fmin", "fmax"),
    "neg": ("sub",),
    "cube": ("mul", "square"),
}
"""The language's operators that the engine can search with, and its symbols for them."""


def _nary(op: str, alone: Callable[[Expr], Expr] | None = None) -> Callable[..., Expr]:
    def build(*args: Expr) -> Expr:
        if len(args) == 1:
            return alone(args[0]) if alone else args[0]
        return functools.reduce(functools.partial(apply, op), args)

    return build


def _quotient(x: Expr, y: Expr) -> Expr:
    """The analytic quotient: x / sqrt(1 + y^2)."""
    return apply("div", x, apply("sqrt", apply("add", Number(1), apply("square", y))))


_BUILDERS: dict[str, Callable[..., Expr]] = {
    "Add": _nary("add"),
    "Sub": _nary("sub", lambda x: apply("neg", x)),
    "Mul": _nary("mul"),
    "Div": _nary("div", lambda x: apply("div", Number(1), x)),
    "Aq": _quotient,
    "Pow": lambda x, y: apply("pow", x, y),
    "Powabs": lambda x, y: apply("pow", apply("abs", x), y),
    "Abs": lambda x: apply("abs", x),
    "Sqrt": lambda x: apply("sqrt", x),
    "Sqrtabs": lambda x: apply("ssqrt", x),
    "Square": lambda x: apply("square", x),
    "Exp": lambda x: apply("exp", x),
    "Log": lambda x: apply("log", x),
    "Tanh": lambda x: apply("tanh", x),
    "Sinh": lambda x: apply("sinh", x),
    "Fmin": _nary("min"),
    "Fmax": _nary("max"),
}


_MISNAMED = {"fmin": "Fmin", "fmax": "Fmax"}
"""Nodes whose name tells what they do and whose type does not (pyoperon 0.6)."""


def read_tree(tree: Any, variables: Mapping[int, Expr]) -> Expr:
    """Convert a tree.

    Args:
        tree: ``pyoperon.Tree``.
        variables: A variable's hash value -> what it stands for.

    Raises:
        DistillationError: the tree holds a node without counterpart in the language, or a number that is not finite.
    """
    stack: list[Expr] = []
    for node in tree.Nodes:
        value = float(node.Value)
        if not math.isfinite(value):
            raise DistillationError("the engine returned a tree with a constant that is not finite")
        if node.IsVariable:
            stack.append(apply("mul", Number(value), variables[node.HashValue]))
        elif node.IsConstant:
            stack.append(Number(value))
        else:
            build = _BUILDERS.get(_MISNAMED.get(node.Name, node.Type.name))
            if build is None:
                raise DistillationError(
                    f"the engine's operator {node.Type.name} has no counterpart in the rule language"
                )
            args = [stack.pop() for _ in range(node.Arity)]
            built = build(*args)
            stack.append(built if value == 1 else apply("mul", Number(value), built))
    (expr,) = stack
    return expr
