"""The parser and the printer are inverse, and the parser refuses what is outside the language."""

import pytest
from hypothesis import given
from strategies import expressions

from closedform.errors import ExpressionError
from closedform.lang import Lag, Limits, Number, Symbol, apply, complexity, parse, to_text


@given(expressions())
def test_round_trip(expr) -> None:
    assert parse(to_text(expr)) == expr


@given(expressions(max_leaves=30))
def test_printing_is_stable(expr) -> None:
    assert to_text(parse(to_text(expr))) == to_text(expr)


@pytest.mark.parametrize(
    ("text", "printed", "nodes"),
    [
        ("beta1*m + (1-beta1)*g", "beta1*m + (1 - beta1)*g", 9),
        ("-m/(sqrt(v)+1e-8)", "-m/(sqrt(v) + 1e-08)", 7),
        ("a - (b - c)", "a - (b - c)", 5),
        ("(a - b) - c", "a - b - c", 5),
        ("a/(b*c)", "a/(b*c)", 5),
        ("-x**2", "-x**2", 4),
        ("(-x)**2", "(-x)**2", 4),
        ("(-2)**x", "(-2)**x", 3),
        ("x*-2", "x*(-2)", 3),
        ("--x", "--x", 3),
        ("+x", "x", 1),
        ("prev(m) + lag(g, 1) + lag(g, 3)", "prev(m) + prev(g) + lag(g, 3)", 5),
        ("100000000000000000000000.0", "1e+23", 1),
        ("-0.0", "0", 1),
    ],
)
def test_forms(text: str, printed: str, nodes: int) -> None:
    expr = parse(text)
    assert to_text(expr) == printed
    assert complexity(expr) == nodes


def test_precedence_is_that_of_mathematics() -> None:
    g, m = Symbol("g"), Symbol("m")
    assert parse("g - m*2") == apply("sub", g, apply("mul", m, Number(2)))
    assert parse("2**g**m") == apply("pow", Number(2), apply("pow", g, m))
    assert parse("prev(m)") == Lag("m", 1)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("__import__('os').system('true')", "only named operators"),
        ("__import__('os')", "unknown operator"),
        ("().__class__", "Attribute"),
        ("g.data", "Attribute"),
        ("g[0]", "Subscript"),
        ("g if m else v", "IfExp"),
        ("lambda: g", "Lambda"),
        ("[g for g in m]", "ListComp"),
        ("f'{g}'", "JoinedStr"),
        ("g < m", "Compare"),
        ("g and m", "BoolOp"),
        ("g // m", "FloorDiv"),
        ("~g", "Invert"),
        ("'g'", "not a number"),
        ("True", "not a number"),
        ("1j", "not a number"),
        ("1e999", "not finite"),
        ("9" * 400, "too large"),
        ("g; m", "syntax error"),
        ("", "syntax error"),
        ("g\0", "null"),
        ("x := 3", "syntax error"),
        ("tnh(g)", "did you mean 'tanh'"),
        ("tanh(g, m)", "takes 1 argument, got 2"),
        ("min(*g)", "plain arguments"),
        ("tanh(x=g)", "plain arguments"),
        ("lag(g, 0)", "integer from 1"),
        ("lag(g, 257)", "integer from 1"),
        ("lag(g, m)", "integer from 1"),
        ("lag(g + m, 2)", "with a name"),
        ("prev(g, 2)", "with a name"),
        ("g**1000", "exponent"),
        ("g" + "+g" * 5000, "nodes|nested"),
        ("(" * 5000 + "g" + ")" * 5000, "nested"),
        ("-" * 9000 + "g", "nested"),
        ("g**" * 5000 + "g", "nested"),
        ("[" * 150 + "g" + "]" * 150, "not part of the language|nested"),
        ("g" * 20_001, "characters"),
    ],
)
def test_refused(text: str, cause: str) -> None:
    with pytest.raises(ExpressionError, match=cause) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_limits_can_be_tightened() -> None:
    assert parse("g + g", Limits(nodes=3))
    with pytest.raises(ExpressionError, match="more than 2 nodes"):
        parse("g + g", Limits(nodes=2))
