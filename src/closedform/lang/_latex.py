r"""LaTeX of expressions, in the order they are written.

SymPy's printer works on SymPy's own forms, which reorder terms and turn ``a/b`` into ``a * b**-1``; a reader compares
the equation with the rule file, so the tree is printed as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol

_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega".split()
)
_ACCENTS = {"hat": r"\hat", "tilde": r"\tilde", "bar": r"\bar", "dot": r"\dot"}
_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = 1, 2, 3, 4, 5
_FUNCTIONS = {name: f"\\{name}" for name in ("exp", "log", "tanh", "sinh", "min", "max")} | {
    name: rf"\operatorname{{{name}}}"
    for name in ("asinh", "erf", "erfc", "sign", "clip", "relu", "mean", "rms", "spow", "slog", "ssqrt", "where")
}
_FUNCTIONS |= {
    "row_mean": r"\operatorname{rowmean}",
    "col_mean": r"\operatorname{colmean}",
    "orthogonalise": r"\operatorname{orth}",
}


def symbol_latex(name: str, time: str = "") -> str:
    r"""LaTeX of a name: ``beta1`` is ``\beta_{1}``, ``m_hat`` is ``\hat{m}``; ``time`` becomes a subscript."""
    parts = name.split("_")
    accents = [part for part in parts[1:] if part in _ACCENTS]
    stem = "_".join([parts[0], *(part for part in parts[1:] if part not in _ACCENTS)])
    if not stem.strip("_"):  # nothing for an accent to stand on
        stem, accents = name, []
    match = re.fullmatch(r"([A-Za-z]+)_?([0-9]+)", stem)
    letter, index = match.groups() if match else (stem, "")
    letter = "epsilon" if letter == "eps" else letter
    escaped = letter.replace("_", r"\_")
    body = (
        f"\\{letter}"
        if letter in _GREEK
        else letter
        if len(letter) == 1 and letter.isalpha()
        else rf"\mathrm{{{escaped}}}"
    )
    for accent in accents:
        body = f"{_ACCENTS[accent]}{{{body}}}"
    subscript = ",".join(filter(None, [index, time]))
    return f"{body}_{{{subscript}}}" if subscript else body


def number_latex(value: float, digits: int = 6) -> str:
    r"""LaTeX of a number: ``1e-08`` is ``10^{-8}``."""
    if not math.isfinite(value):
        return {math.inf: r"\infty", -math.inf: r"-\infty"}.get(value, r"\mathrm{nan}")
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return {"1": power, "-1": f"-{power}"}.get(mantissa, rf"{mantissa} \cdot {power}")


def latex(expr: Expr, times: Mapping[str, str] | None = None, digits: int = 6) -> str:
    """LaTeX of one expression.

    Args:
        expr: The expression.
        times: Time index of each name that has one, ``{"g": "t", "m": "t-1"}``; a lag by k is shown as ``t-k``.
        digits: Significant digits of constants.
    """
    return _Printer(times or {}, digits).text(expr)[0]


class _Printer:
    def __init__(self, times: Mapping[str, str], digits: int) -> None:
        self.times, self.digits = times, digits

    def text(self, expr: Expr) -> tuple[str, int]:
        """LaTeX of a node and how tightly it binds."""
        if isinstance(expr, Number):
            shown = number_latex(expr.value, self.digits)
            if expr.value < 0:
                return shown, _UNARY
            return shown, _PRODUCT if "cdot" in shown else _POWER if "^" in shown else _ATOM
        if isinstance(expr, Symbol):
            return symbol_latex(expr.name, self.times.get(expr.name, "")), _ATOM
        if isinstance(expr, Lag):
            return symbol_latex(expr.name, f"t-{expr.steps}"), _ATOM
        return self.special(expr) or self.call(expr)

    def special(self, expr: Apply) -> tuple[str, int] | None:
        """Operators with a notation of their own."""
        args, op = expr.args, expr.op
        if op in ("add", "sub"):
            right = self.wrapped(args[1], _PRODUCT if op == "sub" else _SUM, signed=False)
            return f"{self.wrapped(args[0], _SUM)} {'+' if op == 'add' else '-'} {right}", _SUM
        if op == "mul":
            return self.product(args[0], args[1]), _PRODUCT
        if op == "div":
            return self.fraction(args[0], args[1])
        if op == "neg":
            return f"-{self.wrapped(args[0], _PRODUCT, signed=False)}", _UNARY
        if op in ("square", "cube"):
            return f"{self.wrapped(args[0], _ATOM)}^{{{2 if op == 'square' else 3}}}", _POWER
        if op == "pow":
            return f"{self.wrapped(args[0], _ATOM)}^{{{self.text(args[1])[0]}}}", _POWER
        enclosed = {
            "sqrt": r"\sqrt{%s}",
            "ssqrt": r"\sqrt{\left|%s\right|}",
            "abs": r"\left|%s\right|",
            "norm": r"\left\lVert %s \right\rVert",
        }
        if op in enclosed:
            return enclosed[op] % self.text(args[0])[0], _ATOM
        if op == "greater":
            return rf"\left[{self.text(args[0])[0]} > {self.text(args[1])[0]}\right]", _ATOM
        return None

    def call(self, expr: Apply) -> tuple[str, int]:
        inside = ", ".join(self.text(arg)[0] for arg in expr.args)
        return rf"{_FUNCTIONS[expr.op]}\left({inside}\right)", _ATOM

    def product(self, left: Expr, right: Expr) -> str:
        first, second = self.wrapped(left, _PRODUCT), self.wrapped(right, _PRODUCT, signed=False)
        joint = r" \cdot " if second[:1].isdigit() else r" \, "
        return f"{first}{joint}{second}"

    def fraction(self, above: Expr, below: Expr) -> tuple[str, int]:
        if isinstance(above, Apply) and above.op == "neg":
            shown, _ = self.fraction(above.args[0], below)
            return (shown[1:], _PRODUCT) if shown.startswith("-") else (f"-{shown}", _UNARY)
        return rf"\frac{{{self.text(above)[0]}}}{{{self.text(below)[0]}}}", _PRODUCT

    def wrapped(self, expr: Expr, at_least: int, signed: bool = True) -> str:
        shown, precedence = self.text(expr)
        if precedence < at_least or (not signed and shown.startswith("-")):
            return rf"\left({shown}\right)"
        return shown
