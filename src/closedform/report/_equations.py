"""A rule as a table of equations in MathML, which browsers typeset themselves.

Expressions are printed as they are written, as in the LaTeX of `Rule.latex`. Long sums are broken between terms, since
browsers do not break equations.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from closedform.lang import Apply, Equation, Expr, Number, apply, complexity, equations, mathml, symbol_mathml
from closedform.rules import Rule

_LINE = 40
"""Nodes of an expression above which a sum is broken over lines."""
_THIN = '<mspace width="0.17em"/>'
_INDENT = '<mspace width="2em"/>'


def rule_mathml(rule: Rule, digits: int = 4) -> str:
    """A table of equations: the update first, then the live named values and recurrences it is made of.

    A table of HTML rather than MathML's own, whose columns some browsers do not align.

    Args:
        rule: The rule.
        digits: Significant digits of numbers.
    """
    lines = equations(rule.program.live)
    (update,) = lines["outputs"]
    moved = f"{symbol_mathml('w', 't-1')}<mo>+</mo><mi>η</mi>{_THIN}{symbol_mathml('u', 't')}"
    rows = [_row(symbol_mathml("w", "t"), moved), *_rows(update._replace(name="u"), digits)]
    for equation in [*reversed(lines["where"]), *lines["state"]]:
        rows += _rows(equation, digits)
    return f'<table class="equations" role="presentation">{"".join(rows)}</table>'


def symbol_html(name: str) -> Markup:
    """A name on its own, for tables."""
    return Markup(f"<math>{symbol_mathml(name)}</math>")


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


def _rows(equation: Equation, digits: int) -> list[str]:
    expr = tidy_signs(equation.expr)
    if complexity(expr) > _LINE:
        lines = _broken(expr, equation.times, digits)
    else:
        lines = [mathml(expr, equation.times, digits)]
    left = symbol_mathml(equation.name, equation.time)
    return [_row(left, lines[0]), *(_row("", line) for line in lines[1:])]


def _row(left: str, right: str) -> str:
    sign = '<mo form="infix">=</mo>' if left else _INDENT
    return f"<tr><td>{_math(left) if left else ''}</td><td>{_math(f'<mrow/>{sign}{right}')}</td></tr>"


def _math(inside: str) -> str:
    return f'<math displaystyle="true">{inside}</math>'


def _broken(expr: Expr, times: Mapping[str, str], digits: int) -> list[str]:
    """A sum's terms, as many a line as fit."""
    lines: list[str] = []
    filled = 0
    for sign, term in _terms(expr, "+"):
        size = complexity(term)
        shown = f"<mrow>{mathml(term, times, digits)}</mrow>"
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
