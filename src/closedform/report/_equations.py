"""Rules as MathML, which browsers typeset themselves: no script, no fonts and no pictures in the report.

Expressions are printed as they are written, as in the LaTeX of `Rule.latex`. Long sums are broken between terms, since
browsers do not break equations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape

from markupsafe import Markup

from closedform.lang import Apply, Expr, Lag, Number, Symbol, apply, complexity
from closedform.rules import Rule

_LETTERS = "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega".split()
_GREEK = {**dict(zip(_LETTERS, "αβγδεζηθκλμνξρστφχψω", strict=True)), "eps": "ε"}
_ACCENTS = {"hat": "^", "tilde": "~", "bar": "¯", "dot": "˙"}
_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(1, 6)
_LINE = 40
"""Nodes of an expression above which a sum is broken over lines."""
Shown = tuple[str, int]


def rule_mathml(rule: Rule, digits: int = 4) -> str:
    """A table of equations: the update first, then the live named values and recurrences it is made of.

    A table of HTML rather than MathML's own, whose columns some browsers do not align.

    Args:
        rule: The rule.
        digits: Significant digits of numbers.
    """
    program = rule.program.live
    now = dict.fromkeys(["g", *program.state, *program.where], "t")
    before = now | dict.fromkeys(program.state, "t-1") | {"w": "t-1"}
    now["w"] = "t-1"
    rows = [_row(_symbol("w", "t"), f"{_symbol('w', 't-1')}<mo>+</mo><mi>η</mi>{_THIN}{_symbol('u', 't')}")]
    rows += _equation("u", rule.update, now, digits)
    rows += [row for name, expr in reversed(list(program.where.items())) for row in _equation(name, expr, now, digits)]
    rows += [row for name, expr in program.state.items() for row in _equation(name, expr, before, digits)]
    return f'<table class="equations" role="presentation">{"".join(rows)}</table>'


def tidy_signs(expr: Expr) -> Expr:
    """The same value with ``x + -2*y`` written as ``x - 2*y``, and ``x - -2*y`` as ``x + 2*y``."""
    if not isinstance(expr, Apply):
        return expr
    args = [tidy_signs(arg) for arg in expr.args]
    if expr.op in ("add", "sub") and (positive := _negated(args[1])) is not None:
        return apply("sub" if expr.op == "add" else "add", args[0], positive)
    return apply(expr.op, *args)


def _negated(expr: Expr) -> Expr | None:
    """Minus a term that opens with a negative number or a minus sign; None for other terms."""
    if isinstance(expr, Number):
        return Number(-expr.value) if expr.value < 0 else None
    if isinstance(expr, Apply) and expr.op == "neg":
        return expr.args[0]
    if isinstance(expr, Apply) and expr.op in ("mul", "div"):
        first = _negated(expr.args[0])
        return None if first is None else apply(expr.op, first, expr.args[1])
    return None


def symbol_mathml(name: str) -> Markup:
    """A name on its own, for running text and tables."""
    return Markup(f"<math>{_symbol(name)}</math>")


_THIN = '<mspace width="0.17em"/>'
_INDENT = '<mspace width="2em"/>'


def _equation(name: str, expr: Expr, times: Mapping[str, str], digits: int) -> list[str]:
    expr = tidy_signs(expr)
    printer = _Printer(times, digits)
    lines = _broken(expr, printer) if complexity(expr) > _LINE else [printer.text(expr)[0]]
    return [_row(_symbol(name, "t"), lines[0]), *(_row("", line) for line in lines[1:])]


def _row(left: str, right: str) -> str:
    sign = '<mo form="infix">=</mo>' if left else _INDENT
    return f"<tr><td>{_math(left) if left else ''}</td><td>{_math(f'<mrow/>{sign}{right}')}</td></tr>"


def _math(inside: str) -> str:
    return f'<math displaystyle="true">{inside}</math>'


def _broken(expr: Expr, printer: _Printer) -> list[str]:
    """A sum's terms, as many a line as fit."""
    lines: list[str] = []
    filled = 0
    for sign, term in _terms(expr, "+"):
        size = complexity(term)
        shown = printer.wrapped(term, _PRODUCT, signed=False)
        shown = f"<mo>{sign}</mo>{shown}" if lines or sign != "+" else shown
        if lines and filled + size <= _LINE:
            lines[-1] += shown
            filled += size
        else:
            lines.append(shown)
            filled = size
    return [f"<mrow>{line}</mrow>" for line in lines]


def _terms(expr: Expr, sign: str) -> list[tuple[str, Expr]]:
    """The terms of a sum with their signs."""
    flip = {"+": "−", "−": "+"}
    if isinstance(expr, Apply) and expr.op in ("add", "sub"):
        second = flip[sign] if expr.op == "sub" else sign
        return _terms(expr.args[0], sign) + _terms(expr.args[1], second)
    positive = _negated(expr)
    return [(sign, expr)] if positive is None else _terms(positive, flip[sign])


def _symbol(name: str, time: str = "") -> str:
    """``m_hat`` is m with a hat, ``beta1`` has a 1 below, ``avg_g_tilde`` is avg with a g~ below."""
    words: list[list[str]] = []
    for part in name.split("_"):
        if part in _ACCENTS and words:
            words[-1].append(part)
        else:
            words.append([part])
    first, *others = [_word(*word) for word in words]
    body, index = first
    below = [f"{inner}{_THIN if number else ''}{number}" for inner, number in others]
    below = ([index] if index else []) + ([_THIN.join(below)] if below else []) + ([_time(time)] if time else [])
    return f"<msub>{body}<mrow>{'<mo>,</mo>'.join(below)}</mrow></msub>" if below else body


def _word(stem: str, *accents: str) -> tuple[str, str]:
    """A letter or word with its accents, and the number at its end."""
    match = re.fullmatch(r"([A-Za-z]+)([0-9]+)", stem)
    letter, index = match.groups() if match else (stem, "")
    body = f"<mn>{letter}</mn>" if letter.isdigit() else f"<mi>{_GREEK.get(letter, escape(letter))}</mi>"
    for accent in accents:
        body = f'<mover accent="true">{body}<mo stretchy="false">{_ACCENTS[accent]}</mo></mover>'
    return body, f"<mn>{index}</mn>" if index else ""


def _time(time: str) -> str:
    letter, minus, steps = time.partition("-")
    return f"<mi>{letter}</mi>" + (f"<mo>−</mo><mn>{steps}</mn>" if minus else "")


def _number(value: float, digits: int) -> Shown:
    mantissa, _, exponent = f"{abs(value):.{digits}g}".partition("e")
    shown, precedence = f"<mn>{mantissa}</mn>", _ATOM
    if exponent:
        sign = "<mo>−</mo>" if int(exponent) < 0 else ""
        power = f"<msup><mn>10</mn><mrow>{sign}<mn>{abs(int(exponent))}</mn></mrow></msup>"
        shown, precedence = (power, _POWER) if mantissa == "1" else (f"{shown}<mo>⋅</mo>{power}", _PRODUCT)
    return (f"<mrow><mo>−</mo>{shown}</mrow>", _UNARY) if value < 0 else (shown, precedence)


def _fenced(inside: str, left: str = "(", right: str = ")") -> str:
    """``inside`` in brackets, which grow with tall contents only: browsers space growing ones widely."""
    grow = "" if "<mfrac>" in inside or "<msqrt>" in inside else ' stretchy="false"'
    return f"<mrow><mo{grow}>{left}</mo>{inside}<mo{grow}>{right}</mo></mrow>"


class _Printer:
    def __init__(self, times: Mapping[str, str], digits: int) -> None:
        self.times, self.digits = times, digits

    def text(self, expr: Expr) -> Shown:
        """Markup of a node and how tightly it binds."""
        if isinstance(expr, Number):
            return _number(expr.value, self.digits)
        if isinstance(expr, Symbol):
            return _symbol(expr.name, self.times.get(expr.name, "")), _ATOM
        if isinstance(expr, Lag):
            return _symbol(expr.name, f"t-{expr.steps}"), _ATOM
        notation = _NOTATIONS.get(expr.op)
        return notation(self, *expr.args) if notation else self.call(expr.op, *expr.args)

    def call(self, op: str, *args: Expr) -> Shown:
        inside = "<mo>,</mo>".join(self.text(arg)[0] for arg in args)
        return f"<mrow><mi>{escape(op)}</mi><mo>&#x2061;</mo>{_fenced(inside)}</mrow>", _ATOM

    def add(self, x: Expr, y: Expr) -> Shown:
        return f"{self.wrapped(x, _SUM)}<mo>+</mo>{self.wrapped(y, _SUM, signed=False)}", _SUM

    def sub(self, x: Expr, y: Expr) -> Shown:
        return f"{self.wrapped(x, _SUM)}<mo>−</mo>{self.wrapped(y, _PRODUCT, signed=False)}", _SUM

    def mul(self, x: Expr, y: Expr) -> Shown:
        first, second = self.wrapped(x, _PRODUCT), self.wrapped(y, _PRODUCT, signed=False)
        joint = "<mo>⋅</mo>" if second.startswith("<mn>") else _THIN
        return f"{first}{joint}{second}", _PRODUCT

    def div(self, x: Expr, y: Expr) -> Shown:
        if isinstance(x, Apply) and x.op == "neg":
            return f"<mrow><mo>−</mo>{self.div(x.args[0], y)[0]}</mrow>", _UNARY
        return f"<mfrac><mrow>{self.text(x)[0]}</mrow><mrow>{self.text(y)[0]}</mrow></mfrac>", _PRODUCT

    def neg(self, x: Expr) -> Shown:
        return f"<mrow><mo>−</mo>{self.wrapped(x, _PRODUCT)}</mrow>", _UNARY

    def power(self, x: Expr, exponent: str) -> Shown:
        return f"<msup><mrow>{self.wrapped(x, _ATOM)}</mrow><mrow>{exponent}</mrow></msup>", _POWER

    def pow(self, x: Expr, y: Expr) -> Shown:
        return self.power(x, self.text(y)[0])

    def greater(self, x: Expr, y: Expr) -> Shown:
        return _fenced(f"{self.text(x)[0]}<mo>&gt;</mo>{self.text(y)[0]}", "[", "]"), _ATOM

    def root(self, x: Expr) -> Shown:
        return f"<msqrt>{self.text(x)[0]}</msqrt>", _ATOM

    def absolute(self, x: Expr) -> Shown:
        return _fenced(self.text(x)[0], "|", "|"), _ATOM

    def root_of_absolute(self, x: Expr) -> Shown:
        return f"<msqrt>{self.absolute(x)[0]}</msqrt>", _ATOM

    def norm(self, x: Expr) -> Shown:
        return _fenced(self.text(x)[0], "‖", "‖"), _ATOM

    def wrapped(self, expr: Expr, at_least: int, signed: bool = True) -> str:
        shown, precedence = self.text(expr)
        if precedence < at_least or (not signed and precedence == _UNARY):
            return _fenced(shown)
        return f"<mrow>{shown}</mrow>" if precedence in (_SUM, _PRODUCT) and not shown.startswith("<mfrac>") else shown


_NOTATIONS: dict[str, Callable[..., Shown]] = {
    "add": _Printer.add,
    "sub": _Printer.sub,
    "mul": _Printer.mul,
    "div": _Printer.div,
    "neg": _Printer.neg,
    "pow": _Printer.pow,
    "square": lambda printer, x: printer.power(x, "<mn>2</mn>"),
    "cube": lambda printer, x: printer.power(x, "<mn>3</mn>"),
    "sqrt": _Printer.root,
    "ssqrt": _Printer.root_of_absolute,
    "abs": _Printer.absolute,
    "norm": _Printer.norm,
    "greater": _Printer.greater,
}
