"""Expressions as Python source for an array library.

The printer knows Python's grammar; a `Dialect` says how torch, numpy or jax.numpy write each operator. Constants of a
rule are plain Python numbers in the exported file, and so is what is made of them alone. Python's numbers do not
follow IEEE arithmetic (``1/0`` raises), and torch's functions take tensors only: where that matters a plain number is
wrapped in the dialect's own scalar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from closedform.lang import Apply, Expr, Lag, Number, Symbol, evaluate, lags, names, number_text

WIDTH = 88
"""Columns of an exported file (the default of ruff and black)."""
INDENT = " " * 4
_ATOM, _POWER, _UNARY, _PRODUCT, _SUM = 5, 4, 3, 2, 1
_INFIX = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT), "div": ("/", _PRODUCT), "pow": ("**", _POWER)}
_STAYS_PLAIN = {"add", "sub", "mul", "neg", "abs"}
_SIMPLE = re.compile(r"-?(\w+|\d[\d.]*(e[+-]?\d+)?)")
LARGEST_PLAIN_POWER = 4

Template = str | Callable[[tuple[bool, ...]], str]


@dataclass(frozen=True)
class Dialect:
    """How an array library writes the operators.

    Attributes:
        calls: Operator -> template over its arguments; ``{0:a}`` is an argument that must be an array. Or a function
            from "which arguments are plain numbers" to the template. ``where_greater`` is ``where(greater(x, y), ..)``.
        helpers: Name -> source of a function that exported files define when they use it.
        scalar: Template that makes an array of a plain number.
    """

    calls: Mapping[str, Template]
    helpers: Mapping[str, str]
    scalar: str


@dataclass(frozen=True)
class Piece:
    """Source of one value.

    Attributes:
        text: Python source.
        binds: How tightly it binds.
        plain: A Python number, not an array.
        literal: Its value if it is a literal.
        array: The same as an array.
    """

    text: str
    binds: int = _ATOM
    plain: bool = False
    literal: float | None = None
    array: str = ""

    def __format__(self, spec: str) -> str:
        return self.array if spec == "a" and self.plain else self.argument

    @property
    def argument(self) -> str:
        """As an argument of a call, where an integer would make an array of integers."""
        return _float_text(self.literal) if self.literal is not None else self.text

    def at_least(self, binds: int) -> str:
        """The text, in parentheses if it binds less tightly."""
        return self.text if self.binds >= binds else f"({self.text})"


@dataclass
class Printer:
    """Prints statements, one after the other; long values are split over several.

    Attributes:
        dialect: The array library.
        read: Symbol or Lag -> source that reads it.
        plain: Names whose value is a plain number; grows with the statements.
        part: Stem of names for parts of long values.
        lines: Statements so far.
        helpers: Helpers used so far.
    """

    dialect: Dialect
    read: Callable[[Symbol | Lag], str]
    plain: set[str]
    part: str
    lines: list[str] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)
    room: int = WIDTH

    def assign(self, target: str, expr: Expr, name: str | None = None) -> None:
        """Add ``target = expr``; ``name`` is what later expressions call it."""
        self.room = WIDTH - len(INDENT) - len(" = ") - max(len(target), len(self.part) + 4)
        piece = self.piece(expr)
        self.lines.append(f"{target} = {piece.text}")
        if name is not None and piece.plain:
            self.plain.add(name)

    def piece(self, expr: Expr) -> Piece:
        """Source of one value; at most ``room`` columns where that can be had."""
        value = literal(expr)
        if value is not None:
            text = number_text(value) if math.isfinite(value) else _float_text(value)
            return Piece(text, _UNARY if value < 0 else _ATOM, True, value, self.scalar(_float_text(value)))
        if isinstance(expr, (Symbol, Lag)):
            plain = isinstance(expr, Symbol) and expr.name in self.plain
            text = self.read(expr)
            return Piece(text, plain=plain, array=self.scalar(text) if plain else text)
        assert isinstance(expr, Apply)
        if expr.op == "cube":
            expr = Apply("pow", (expr.args[0], Number(3)))
        op, operands = _joined(expr)
        args = [self.piece(arg) for arg in operands]
        piece = self.combine(op, args)
        while len(piece.text) > self.room:
            longest = max(range(len(args)), key=lambda index: len(args[index].text))
            if len(args[longest].text) <= len(self.part) + 4:
                break
            args[longest] = self.named(args[longest])
            piece = self.combine(op, args)
        return piece

    def named(self, piece: Piece) -> Piece:
        """Put a value in a statement of its own."""
        name = self.parts.get(piece.text)
        if name is None:
            name = self.parts[piece.text] = f"{self.part}{len(self.parts) + 1}"
            self.lines.append(f"{name} = {piece.text}")
        return Piece(name, plain=piece.plain, array=self.scalar(name) if piece.plain else name)

    def combine(self, op: str, args: Sequence[Piece]) -> Piece:
        all_plain = all(arg.plain for arg in args)
        if all_plain and op in ("div", "pow") and not _safe_in_python(op, args):
            first = next(index for index, arg in enumerate(args) if arg.literal is None)
            args = [self.lifted(arg) if index == first else arg for index, arg in enumerate(args)]
            all_plain = False
        text, binds = self.source(op, args)
        plain = all_plain and (op in _STAYS_PLAIN or op in ("div", "pow"))
        return Piece(text, binds, plain, array=self.scalar(text) if plain else text)

    def source(self, op: str, args: Sequence[Piece]) -> tuple[str, int]:
        if op == "neg":
            spaced = " ** " in args[0].text and args[0].binds == _POWER  # ruff puts it in parentheses
            shown = args[0].at_least(_ATOM if spaced else _UNARY)
            return f"-({shown})" if shown.startswith("-") else f"-{shown}", _UNARY
        if op in _INFIX:
            return _infix(op, args)
        template = self.dialect.calls[op]
        if not isinstance(template, str):
            template = template(tuple(arg.plain for arg in args))
        self.helpers |= {name for name in self.dialect.helpers if template.startswith(f"{name}(")}
        if any(f"{{{index}:a}}" in template and arg.plain for index, arg in enumerate(args)):
            self.note_scalar()
        return template.format(*args), _ATOM

    def lifted(self, piece: Piece) -> Piece:
        self.note_scalar()
        return Piece(piece.array)

    def scalar(self, text: str) -> str:
        return self.dialect.scalar.format(text)

    def note_scalar(self) -> None:
        self.helpers |= {"scalar"} & set(self.dialect.helpers)


def literal(expr: Expr) -> float | None:
    """The value of an expression made of numbers only, in float64."""
    if isinstance(expr, Number):
        return expr.value
    if not isinstance(expr, Apply) or names(expr) or lags(expr):
        return None
    return float(evaluate(expr, {}))


def _joined(expr: Apply) -> tuple[str, tuple[Expr, ...]]:
    """``where(greater(x, y), a, b)`` reads best as one operation."""
    if expr.op == "where" and isinstance(expr.args[0], Apply) and expr.args[0].op == "greater":
        return "where_greater", (*expr.args[0].args, *expr.args[1:])
    return expr.op, expr.args


def _safe_in_python(op: str, args: Sequence[Piece]) -> bool:
    value = args[1].literal
    if value is None:
        return False
    return value != 0 if op == "div" else value in range(1, LARGEST_PLAIN_POWER + 1)


def _infix(op: str, args: Sequence[Piece]) -> tuple[str, int]:
    symbol, own = _INFIX[op]
    if op == "pow":
        right = args[1].text if args[1].literal is not None else args[1].at_least(_ATOM)
        left = args[0].at_least(_ATOM)
        tight = _SIMPLE.fullmatch(left) and _SIMPLE.fullmatch(right)  # as ruff and black space it
        return left + ("**" if tight else " ** ") + right, own
    right = args[1].at_least(own + 1)
    return f"{args[0].at_least(own)} {symbol} {f'({right})' if right.startswith('-') else right}", own


def _float_text(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'float("{value}")'
