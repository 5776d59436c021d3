"""Parse expressions from untrusted text.

Python's own grammar reads the text (``ast`` in eval mode, which builds a tree and runs nothing); then only a
whitelist of node kinds is accepted. Size limits come first, so that a hostile file costs little.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from dataclasses import dataclass

from closedform._document import shown
from closedform.errors import ExpressionError
from closedform.lang._abstract import constant_value
from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol, apply
from closedform.lang._operators import FUNCTIONS


@dataclass(frozen=True)
class Limits:
    """What an expression may be at most.

    Attributes:
        length: Characters of text.
        depth: Nodes from the root to the deepest leaf.
        nodes: Nodes in all (the complexity).
        exponent: Absolute value of an exponent made of numbers alone.
        lag: Steps that ``lag`` may look back.
        name: Characters of a name.
    """

    length: int = 20_000
    depth: int = 100
    nodes: int = 2_000
    exponent: float = 100.0
    lag: int = 256
    name: int = 200


LIMITS = Limits()
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
}


def parse(text: str, limits: Limits = LIMITS) -> Expr:
    """Parse one expression.

    Args:
        text: For example ``"beta1*m + (1 - beta1)*g"``.
        limits: Sizes past which the text is refused.

    Returns:
        The expression tree; ``parse(to_text(e)) == e`` for every tree within the limits.

    Raises:
        ExpressionError: bad syntax, something outside the language, or past a limit; says which and where.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression must be text, got {type(text).__name__}")
    if len(text) > limits.length:
        raise ExpressionError(f"expression of {len(text)} characters; the limit is {limits.length}")
    try:
        return _Reader(limits).read(_syntax_tree(text), 1)
    except RecursionError:
        raise ExpressionError(f"expression is nested too deeply: {shown(text)}") from None


def _syntax_tree(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"syntax error{place} in {shown(text)}: {error.msg[:80]}") from None
    except (RecursionError, MemoryError):
        raise ExpressionError(f"expression is nested too deeply: {shown(text)}") from None
    except ValueError as error:  # a null byte, an integer of thousands of digits
        raise ExpressionError(f"cannot read {shown(text)}: {str(error)[:80]}") from None


@dataclass
class _Reader:
    limits: Limits
    nodes: int = 0

    def read(self, node: ast.expr, level: int) -> Expr:
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise ExpressionError(f"expression has more than {self.limits.nodes} nodes")
        if level > self.limits.depth:
            raise ExpressionError(f"expression is nested more than {self.limits.depth} deep")
        if isinstance(node, ast.Constant):
            return self.number(node)
        if isinstance(node, ast.Name):
            return Symbol(self.name(node))
        if isinstance(node, ast.BinOp):
            return self.binary(node, level)
        if isinstance(node, ast.UnaryOp):
            return self.unary(node, level)
        if isinstance(node, ast.Call):
            return self.call(node, level)
        raise ExpressionError(f"{type(node).__name__} is not part of the language: {_source(node)}")

    def name(self, node: ast.Name) -> str:
        if len(node.id) > self.limits.name:
            raise ExpressionError(f"the name {shown(node.id)} has more than {self.limits.name} characters")
        return node.id

    def number(self, node: ast.Constant) -> Number:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise ExpressionError(f"constant {_source(node)} is not a number")
        try:
            return Number(float(node.value))
        except OverflowError:
            raise ExpressionError("an integer constant is too large") from None

    def binary(self, node: ast.BinOp, level: int) -> Expr:
        op = _BINARY.get(type(node.op))
        if op is None:
            raise ExpressionError(f"operator {type(node.op).__name__} is not part of the language (use + - * / **)")
        left, right = self.read(node.left, level + 1), self.read(node.right, level + 1)
        exponent = constant_value(right) if op == "pow" else None
        if exponent is not None and not abs(exponent) <= self.limits.exponent:
            raise ExpressionError(f"exponent {exponent:g}; the limit is {self.limits.exponent:g} in absolute value")
        return apply(op, left, right)

    def unary(self, node: ast.UnaryOp, level: int) -> Expr:
        if isinstance(node.op, ast.USub):
            return apply("neg", self.read(node.operand, level + 1))
        if isinstance(node.op, ast.UAdd):
            return self.read(node.operand, level + 1)
        raise ExpressionError(f"operator {type(node.op).__name__} is not part of the language")

    def call(self, node: ast.Call, level: int) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise ExpressionError(f"only named operators can be called, not {_source(node.func)}")
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            raise ExpressionError(f"{shown(node.func.id)[1:-1]} takes plain arguments only")
        name = node.func.id
        if name in ("lag", "prev"):
            return self.lag(name, node.args)
        if name not in FUNCTIONS:
            raise ExpressionError(_unknown_operator(name))
        return apply(name, *(self.read(arg, level + 1) for arg in node.args))

    def lag(self, name: str, args: list[ast.expr]) -> Lag:
        if len(args) != (2 if name == "lag" else 1) or not isinstance(args[0], ast.Name):
            form = "lag(name, steps)" if name == "lag" else "prev(name)"
            raise ExpressionError(
                f"write {form}, with a name, not an expression: give the expression a name in 'where'"
            )
        steps = args[1].value if name == "lag" and isinstance(args[1], ast.Constant) else 1 if name == "prev" else None
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= self.limits.lag:
            raise ExpressionError(
                f"the steps of lag({shown(args[0].id)[1:-1]}, ...) must be an integer from 1 to {self.limits.lag}"
            )
        return Lag(self.name(args[0]), steps)


def _unknown_operator(name: str) -> str:
    near = difflib.get_close_matches(name[:40], [*FUNCTIONS, "lag", "prev"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown operator {shown(name)}{hint} (known: {', '.join([*FUNCTIONS, 'lag', 'prev'])})"


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node))
    except ValueError:  # a number of thousands of digits, which Python refuses to print
        return type(node).__name__


_ATOM, _POWER, _UNARY, _PRODUCT, _SUM = 5, 4, 3, 2, 1
_PRECEDENCE = {"add": _SUM, "sub": _SUM, "mul": _PRODUCT, "div": _PRODUCT, "neg": _UNARY, "pow": _POWER}
_JOINT = {"add": " + ", "sub": " - ", "mul": "*", "div": "/", "pow": "**"}


def to_text(expr: Expr) -> str:
    """Print an expression in the language; the inverse of `parse`."""
    return _print(expr)[0]


def number_text(value: float) -> str:
    """The shortest text that reads back as the same float: ``1``, ``0.1``, ``1e-08``."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _print(expr: Expr) -> tuple[str, int]:
    if isinstance(expr, Number):
        return number_text(expr.value), _UNARY if expr.value < 0 else _ATOM
    if isinstance(expr, Symbol):
        return expr.name, _ATOM
    if isinstance(expr, Lag):
        return (f"prev({expr.name})" if expr.steps == 1 else f"lag({expr.name}, {expr.steps})"), _ATOM
    if expr.op == "neg":
        return "-" + _wrapped(expr.args[0], _UNARY), _UNARY
    if expr.op in _JOINT:
        return _print_infix(expr), _PRECEDENCE[expr.op]
    return f"{expr.op}({', '.join(to_text(arg) for arg in expr.args)})", _ATOM


def _print_infix(expr: Apply) -> str:
    own = _PRECEDENCE[expr.op]
    left = _wrapped(expr.args[0], _ATOM if expr.op == "pow" else own)
    right = _wrapped(expr.args[1], _ATOM if expr.op == "pow" else own + 1)
    if right.startswith("-"):  # x*(-2) reads better than x*-2
        right = f"({right})"
    return f"{left}{_JOINT[expr.op]}{right}"


def _wrapped(expr: Expr, at_least: int) -> str:
    text, precedence = _print(expr)
    return text if precedence >= at_least else f"({text})"
