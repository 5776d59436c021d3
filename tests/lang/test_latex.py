r"""LaTeX of expressions: it compiles, and says what the tree says."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser
from strategies import expressions, programs

from closedform.export import export
from closedform.lang import Expr, Number, Program, Symbol, apply, latex, number_latex, parse, symbol_latex
from closedform.rules import Rule, library_names, load_rule

PARSER = MathTextParser("path")


def compiles(text: str) -> bool:
    """True if matplotlib's parser of TeX takes the formula; raises ValueError where TeX would stop."""
    known = text.replace(r"\lVert", r"\|").replace(r"\rVert", r"\|")
    PARSER.parse(f"${known}$")
    return True


def lines(document: str) -> list[str]:
    """The equations of an ``aligned`` block."""
    body = re.sub(r"\\(begin|end)\{aligned\}", "", document)
    return [line.replace("&", "").strip() for line in body.split("\\\\") if line.strip()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("square(1e-8)", r"\left(10^{-8}\right)^{2}"),
        ("1e-8**2", r"\left(10^{-8}\right)^{2}"),
        ("cube(square(x))", r"\left(x^{2}\right)^{3}"),
        ("(2.5e-8)**3", r"\left(2.5 \cdot 10^{-8}\right)^{3}"),
        ("x**1e-8", r"x^{10^{-8}}"),
        ("-(-x)", r"-\left(-x\right)"),
        ("2 - -3", r"2 - \left(-3\right)"),
        ("x*1e-8", r"x \cdot 10^{-8}"),
        ("square(-3)", r"\left(-3\right)^{2}"),
    ],
)
def test_powers_and_signs(text: str, shown: str) -> None:
    assert latex(parse(text)) == shown
    assert compiles(shown)


def test_two_exponents_in_a_row_would_not_compile() -> None:
    with pytest.raises(ValueError, match="Double superscript"):
        compiles("10^{-8}^{2}")


@given(expressions(max_leaves=16))
@example(apply("square", Number(1e-8)))
@example(apply("neg", apply("neg", Number(-1e-8))))
@example(apply("pow", apply("pow", Symbol("g"), Number(2)), Number(-3)))
def test_expressions_compile(expr: Expr) -> None:
    shown = latex(expr, {"g": "t", "w": "t-1"})
    assert compiles(shown)
    assert "--" not in shown.replace(" ", "")


@given(programs)
def test_rules_and_their_exports_compile(program: Program) -> None:
    rule = Rule("random", program, 1e-3)
    for document in (rule.latex(), export(rule, "latex").split("$")[1]):
        assert all(map(compiles, lines(document)))


@pytest.mark.parametrize("name", library_names())
def test_library_rules_compile(name: str) -> None:
    assert all(map(compiles, lines(load_rule(name).latex())))
    document = export(name, "latex")
    assert all(map(compiles, lines(document.split("$")[1])))
    assert all(map(compiles, re.findall(r"^\$(.+?)\$ &", document, re.MULTILINE)))


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True), st.sampled_from(["", "t", "t-1"]))
@example("m_hat_tilde_2", "t")
@example("_", "t-1")
@example("_hat", "")
@example("beta_1_hat", "t")
def test_names_compile(name: str, time: str) -> None:
    assert compiles(rf"{symbol_latex(name, time)}^{{2}}")


@given(st.floats(), st.integers(1, 17))
@example(math.inf, 6)
@example(math.nan, 6)
def test_numbers_compile(value: float, digits: int) -> None:
    assert compiles(number_latex(value, digits))
