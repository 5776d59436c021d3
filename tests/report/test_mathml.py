from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import torch

from closedform.lang import evaluate, parse, to_text
from closedform.report._equations import rule_mathml, symbol_html, tidy_signs
from closedform.rules import Rule, library_names, load_rule


def shown(text: str, **options: str) -> str:
    """The update's text content, as a reader would say it."""
    rule = Rule.parse("r", text, constants={"a": 1.0, "b": 2.0, "c": 3.0}, state={"m": "a*m + g"})
    root = ET.fromstring(rule_mathml(rule).replace("&#x2061;", ""))
    rows = ["".join(row.itertext()) for row in root.iter("tr")]
    assert rows[0] == "wt=wt−1+ηut"
    start = next(index for index, row in enumerate(rows) if row.startswith("ut="))
    end = next((index for index, row in enumerate(rows) if row.startswith("mt=")), len(rows))
    return " / ".join(rows[start:end])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-g", "ut=−gt"),
        ("-(g + m)", "ut=−(gt+mt)"),
        ("a*(g - m)", "ut=a(gt−mt)"),
        ("a - (g - m)", "ut=a−(gt−mt)"),
        ("2*3*g", "ut=2⋅3gt"),
        ("a*(-b*g)", "ut=a(−bgt)"),
        ("-(-g)", "ut=−(−gt)"),
        ("-(-g)/m", "ut=gtmt"),
        ("-0.5*g + -0.25*m", "ut=−0.5gt−0.25mt"),
        ("g - -2*m/a", "ut=gt+2mta"),
        ("(-g)**2", "ut=(−gt)2"),
        ("lag(g, 3)*1e-8", "ut=gt−310−8"),
        ("abs(g) + sqrt(m)", "ut=|gt|+mt"),
        ("spow(g, 0.5)", "ut=spow(gt,0.5)"),
        ("greater(g, m)*w", "ut=[gt>mt]wt−1"),
        ("prev(m)", "ut=mt−1"),
    ],
)
def test_expressions_read_as_mathematics(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_long_sums_are_broken_between_terms() -> None:
    text = " - ".join(f"{k}.5*tanh({k}*g)*square(m)*exp(a*m)" for k in range(1, 7))
    lines = shown(text).split(" / ")
    assert len(lines) > 1
    assert all(line.startswith("−") for line in lines[1:])
    assert sum(line.count("tanh") for line in lines) == 6


@pytest.mark.parametrize("name", library_names())
def test_every_library_rule_is_well_formed(name: str) -> None:
    root = ET.fromstring(rule_mathml(load_rule(name)))
    assert root.tag == "table"
    assert len(list(root.iter("tr"))) >= 2


def test_names_are_escaped_and_accented() -> None:
    assert symbol_html("m_hat") == '<math><mover accent="true"><mi>m</mi><mo stretchy="false">^</mo></mover></math>'
    assert symbol_html("beta1") == "<math><msub><mi>β</mi><mrow><mn>1</mn></mrow></msub></math>"
    assert symbol_html("eps") == "<math><mi>ε</mi></math>"


@pytest.mark.parametrize("text", ["x + -2*y", "x - -2*y/3", "x - -y", "-2*x + -3", "(x + -1)*(y - -1)", "tanh(x + -y)"])
def test_tidy_signs_keeps_the_value(text: str) -> None:
    values = {"x": torch.tensor(0.7, dtype=torch.float64), "y": torch.tensor(-1.3, dtype=torch.float64)}
    tidied = tidy_signs(parse(text))
    assert float(evaluate(tidied, values)) == pytest.approx(float(evaluate(parse(text), values)))
    assert "+ -" not in to_text(tidied)
    assert "- -" not in to_text(tidied)
