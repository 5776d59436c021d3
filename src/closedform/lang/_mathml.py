"""MathML of expressions, which browsers typeset themselves: no script, no fonts and no pictures.

Written here rather than converted from the LaTeX: converters spell names of several letters letter by letter, and make
all brackets grow, which browsers space widely.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from closedform.lang._expression import Expr
from closedform.lang._typeset import ACCENTS, ATOM, GREEK, POWER, PRODUCT, Shown, Typesetter

_LETTERS = GREEK | {"eps": "ε"}
_SIGNS = {"+": "+", "-": "−", ">": "&gt;"}
_THIN = '<mspace width="0.17em"/>'


def mathml(expr: Expr, times: Mapping[str, str] | None = None, digits: int = 4) -> str:
    """MathML of one expression, to be put inside ``<math>``.

    Args:
        expr: The expression.
        times: Time index of each name that has one, ``{"g": "t", "m": "t-1"}``; a lag by k is shown as ``t-k``.
        digits: Significant digits of constants.
    """
    return Typesetter(_MathML(digits), times or {}).shown(expr).text


def symbol_mathml(name: str, time: str = "") -> str:
    """MathML of a name: ``m_hat`` is m with a hat, ``beta1`` has a 1 below, ``avg_g_tilde`` is avg with a g~ below."""
    words: list[list[str]] = []
    for part in name.split("_"):
        if part in ACCENTS and words:
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
    body = f"<mn>{letter}</mn>" if letter.isdigit() else f"<mi>{_LETTERS.get(letter, escape(letter))}</mi>"
    for accent in accents:
        body = f'<mover accent="true">{body}<mo stretchy="false">{ACCENTS[accent]}</mo></mover>'
    return body, f"<mn>{index}</mn>" if index else ""


def _time(time: str) -> str:
    letter, minus, steps = time.partition("-")
    return f"<mi>{letter}</mi>" + (f"<mo>−</mo><mn>{steps}</mn>" if minus else "")


@dataclass(frozen=True)
class _MathML:
    """The `Notation`."""

    digits: int

    def symbol(self, name: str, time: str) -> str:
        return symbol_mathml(name, time)

    def number(self, value: float) -> Shown:
        mantissa, _, exponent = f"{value:.{self.digits}g}".partition("e")
        shown = f"<mn>{mantissa}</mn>"
        if not exponent:
            return Shown(shown, ATOM)
        sign = "<mo>−</mo>" if int(exponent) < 0 else ""
        power = f"<msup><mn>10</mn><mrow>{sign}<mn>{abs(int(exponent))}</mn></mrow></msup>"
        return Shown(power, POWER) if mantissa == "1" else Shown(f"{shown}<mo>⋅</mo>{power}", PRODUCT)

    def negative(self, text: str) -> str:
        return f"<mrow><mo>−</mo>{text}</mrow>"

    def infix(self, left: str, sign: str, right: str) -> str:
        return f"{left}<mo>{_SIGNS[sign]}</mo>{right}"

    def product(self, left: str, right: str) -> str:
        return f"{left}{'<mo>⋅</mo>' if right.startswith('<mn>') else _THIN}{right}"

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"

    def power(self, base: str, exponent: str) -> str:
        return f"<msup><mrow>{base}</mrow><mrow>{exponent}</mrow></msup>"

    def root(self, inside: str) -> str:
        return f"<msqrt>{inside}</msqrt>"

    def fenced(self, inside: str, left: str, right: str) -> str:
        """Brackets grow with tall contents only."""
        grow = "" if "<mfrac>" in inside or "<msqrt>" in inside else ' stretchy="false"'
        return f"<mrow><mo{grow}>{left}</mo>{inside}<mo{grow}>{right}</mo></mrow>"

    def call(self, op: str, args: Sequence[str]) -> str:
        inside = "<mo>,</mo>".join(args)
        return f"<mrow><mi>{escape(op)}</mi><mo>&#x2061;</mo>{self.fenced(inside, '(', ')')}</mrow>"

    def group(self, text: str) -> str:
        return text if text.startswith("<mfrac>") else f"<mrow>{text}</mrow>"
