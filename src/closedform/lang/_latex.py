r"""LaTeX of expressions.

SymPy's printer works on SymPy's own forms, which reorder terms and turn ``a/b`` into ``a * b**-1``; a reader compares
the equation with the rule file, so the tree is printed as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from closedform.lang._expression import Expr
from closedform.lang._typeset import ACCENTS, ATOM, GREEK, POWER, PRODUCT, Equation, Shown, Typesetter

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
    accents = [part for part in parts[1:] if part in ACCENTS]
    stem = "_".join([parts[0], *(part for part in parts[1:] if part not in ACCENTS)])
    if not stem.strip("_"):  # nothing for an accent to stand on
        stem, accents = name, []
    match = re.fullmatch(r"([A-Za-z]+)_?([0-9]+)", stem)
    letter, index = match.groups() if match else (stem, "")
    letter = "epsilon" if letter == "eps" else letter
    escaped = letter.replace("_", r"\_")
    body = (
        f"\\{letter}"
        if letter in GREEK
        else letter
        if len(letter) == 1 and letter.isalpha()
        else rf"\mathrm{{{escaped}}}"
    )
    for accent in accents:
        body = rf"\{accent}{{{body}}}"
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
    return Typesetter(_Latex(digits), times or {}).shown(expr).text


def equation_latex(equation: Equation, digits: int = 6) -> str:
    """A line of an ``aligned`` block."""
    left = symbol_latex(equation.name, equation.time)
    return f"{left} &= {latex(equation.expr, equation.times, digits)}"


@dataclass(frozen=True)
class _Latex:
    """The `Notation`."""

    digits: int

    def symbol(self, name: str, time: str) -> str:
        return symbol_latex(name, time)

    def number(self, value: float) -> Shown:
        text = number_latex(value, self.digits)
        return Shown(text, PRODUCT if "cdot" in text else POWER if "^" in text else ATOM)

    def negative(self, text: str) -> str:
        return f"-{text}"

    def infix(self, left: str, sign: str, right: str) -> str:
        return f"{left} {sign} {right}"

    def product(self, left: str, right: str) -> str:
        joint = r"\cdot" if right[:1].isdigit() else r"\,"
        return f"{left} {joint} {right}"

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def root(self, inside: str) -> str:
        return rf"\sqrt{{{inside}}}"

    def fenced(self, inside: str, left: str, right: str) -> str:
        if left == "‖":
            return rf"\left\lVert {inside} \right\rVert"
        return rf"\left{left}{inside}\right{right}"

    def call(self, op: str, args: Sequence[str]) -> str:
        return rf"{_FUNCTIONS[op]}\left({', '.join(args)}\right)"

    def group(self, text: str) -> str:
        return text
