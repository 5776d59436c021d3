"""What both notations share: brackets and signs, and the times of a program's names."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import expressions

from closedform.lang import Expr, Program, equations, latex, mathml, parse


@given(expressions(max_leaves=16))
def test_notations_have_the_same_brackets_and_signs(expr: Expr) -> None:
    tex, markup = latex(expr, digits=5), mathml(expr, digits=5)
    assert tex.count(r"\left(") == markup.count(">(</mo>")
    assert tex.count("-") == markup.count("−")
    assert tex.count(r"\frac") == markup.count("<mfrac>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + (-y)*z", r"x + \left(-y \, z\right)"),
        ("(-x)*y + z", r"-x \, y + z"),
        ("x*(-y)", r"x \, \left(-y\right)"),
        ("-x/y", r"-\frac{x}{y}"),
        ("-(-x)/y", r"\frac{x}{y}"),
        ("z - -x/y", r"z - \left(-\frac{x}{y}\right)"),
        ("(x - y)**2", r"\left(x - y\right)^{2}"),
        ("x - (y + z)", r"x - \left(y + z\right)"),
    ],
)
def test_brackets_stand_where_they_are_needed(text: str, expected: str) -> None:
    assert latex(parse(text)) == expected


def test_times_of_a_program() -> None:
    program = Program(
        constants={"b": 0.9},
        init={"m": parse("g + w")},
        state={"m": parse("b*m + g")},
        where={"u": parse("m*w")},
        outputs={"update": parse("-u")},
    )
    lines = equations(program)
    shown = {part: [latex(line.expr, line.times) for line in found] for part, found in lines.items()}
    assert shown == {
        "init": ["g_{1} + w_{0}"],
        "state": [r"b \, m_{t-1} + g_{t}"],
        "where": [r"m_{t} \, w_{t-1}"],
        "outputs": ["-u_{t}"],
    }
    assert [(line.name, line.time) for found in lines.values() for line in found] == [
        ("m", "0"), ("m", "t"), ("u", "t"), ("update", "t"),
    ]  # fmt: skip
