"""Exported text: which targets there are, that a rule's texts cannot become code, and that the code is neat."""

import ast
import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export_rules import RULES
from hypothesis import example, given, settings
from hypothesis import strategies as st

import closedform.export
from closedform import Rule, load_rule
from closedform.errors import RuleError, UnknownNameError
from closedform.export import EXPORTERS, export
from closedform.lang import Program, Symbol, apply, parse
from closedform.rules import library_names

PYTHON_TARGETS = [name for name, row in EXPORTERS.items() if row.suffix == ".py"]
ALLOWED = {"torch", "numpy", "math", "jax", "jax.numpy", "optax", "typing", "warnings"}
HOSTILE = [
    'adam"""\nimport os\nos.system("true")\n"""',
    "'''; raise SystemExit #",
    '"',
    '""',
    '""""""""',
    "ends with a backslash\\",
    '\\"""\\',
    "\\N{DIGIT ONE}\\x41\\u0041\\",
    "carriage\rreturn\x0bfeed\x0c\x1c\x85\u2028\u2029separators",
    "right to left \u202e override \u2066 and \ufeff",
    "null \x00 and surrogate \ud800",
    "# -*- coding: utf-7 -*-",
    "{braces} {0} %s $x {lr!r}",
    "class",
    "None",
    "1st",
    "日本語",
    " ",
    "x" * 200,
    "__import__('os')",
]


def rule_called(name: str, provenance: dict) -> Rule:
    """A rule of that name; of the name as Python writes it where no rule may have it, as `Rule` refuses some."""
    return Rule(name if name.isprintable() else ascii(name), load_rule("adam").program, 0.001, provenance)


@pytest.mark.parametrize("name", [text for text in HOSTILE if not text.isprintable()] + ["", "x" * 201])
def test_names_that_are_no_line_are_refused(name: str) -> None:
    with pytest.raises(RuleError, match="a rule's name must be text of 1 to 200 printable characters") as caught:
        Rule(name, load_rule("adam").program)
    assert str(caught.value).isprintable()


def skeleton(text: str) -> str:
    """The syntax tree without docstrings and without the names that come from the rule's name."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    last = tree.body[-1]
    assert isinstance(last, (ast.ClassDef, ast.FunctionDef))
    assert re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]{0,70}", last.name)
    last.name = "Name"
    return ast.dump(tree)


@pytest.mark.parametrize("target", PYTHON_TARGETS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_text(text: str, target: str) -> None:
    exported = export(rule_called(text, {text: text, "nested": [{text: [text]}]}), target)
    assert skeleton(exported) == skeleton(export(rule_called("plain", {}), target))
    exported.encode()
    assert all(char.isprintable() or char == "\n" for char in exported)


@settings(max_examples=150)
@given(st.text(st.characters() | st.sampled_from("\"\\'\n#{}`"), min_size=1, max_size=30))
@example("state")
@example("one_step")
def test_random_texts_stay_text(text: str) -> None:
    exported = export(rule_called(text, {"source": text, text: text}), "python")
    assert skeleton(exported) == skeleton(export(rule_called("plain", {}), "python"))


@pytest.mark.parametrize("target", PYTHON_TARGETS)
def test_hostile_files_can_be_imported(load, target: str) -> None:
    for text in HOSTILE:
        load(export(rule_called(text, {"source": text}), target))


@pytest.mark.parametrize("target", PYTHON_TARGETS)
def test_names_that_mean_something_in_python(target: str) -> None:
    """A `Program` built in Python may use words that the parser would refuse."""
    names = ["lambda", "None", "True", "class", "print", "match"]
    sum_of_all = parse("g")
    for name in names:
        sum_of_all = apply("add", sum_of_all, Symbol(name))
    constants = {name: 0.5 for name in names if name != "None"}
    rule = Rule("words", Program(constants, {"None": sum_of_all}, {}, {"update": sum_of_all}))
    text = export(rule, target)
    ast.parse(text)
    assert "rule_lambda" in text
    assert "rule_None = " in text


@pytest.mark.parametrize("target", PYTHON_TARGETS)
def test_files_need_no_closedform(target: str) -> None:
    for rule in (*RULES.values(), *library_names()):
        for node in ast.walk(ast.parse(export(rule, target))):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= ALLOWED
            elif isinstance(node, ast.ImportFrom):
                assert node.module in ALLOWED


def test_files_are_formatted_and_lint_free(tmp_path: Path) -> None:
    """Also by the strictest reader: no unused name, import or variable, nothing for ruff to reformat."""
    for name in library_names():
        for target in PYTHON_TARGETS:
            (tmp_path / f"{name}_{target}.py").write_text(export(name, target))
    for name, rule in RULES.items():
        for target in PYTHON_TARGETS:
            (tmp_path / f"corner_{name.replace(' ', '_')}_{target}.py").write_text(export(rule, target))
    for command in (["format", "--check"], ["check", "--select", "E4,E7,E9,F,W,I,UP,C4,PIE"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(tmp_path)]
        found = subprocess.run(ruff, capture_output=True, text=True, check=False, timeout=60)
        assert found.returncode == 0, found.stdout + found.stderr


def test_the_docstring_says_where_the_rule_comes_from() -> None:
    text = ast.get_docstring(ast.parse(export("adam")))
    assert text is not None
    for line in ("m <- beta1*m + (1 - beta1)*g", "w <- w + lr*(update - weight_decay*w)", "source: Kingma & Ba 2015"):
        assert line in text
    many = ast.get_docstring(ast.parse(export(rule_called("many", {str(k): "x" * 10_000 for k in range(100)}))))
    assert many is not None
    assert len(many) < 20_000


def test_only_helpers_that_are_used() -> None:
    helpers = export("sgd").split("class Sgd")[0]
    assert [line for line in helpers.splitlines() if line.startswith("def ")] == [
        "def plain(value):",
        "def one_step(g):",
    ]
    assert "def norm(" in export("lamb")
    assert "def rms(" not in export("lamb")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown export target 'pyton': did you mean 'python'\? known: latex"):
        export("adam", "pyton")
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        export("adm")


def test_docstring_examples() -> None:
    assert doctest.testmod(closedform.export).failed == 0


def test_the_documentation_lists_the_targets() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    for row in EXPORTERS.values():
        assert f"| `{row.name}` | {row.summary} | {row.needs} |" in page


@pytest.mark.parametrize("name", library_names())
def test_latex_has_every_equation_and_constant(name: str) -> None:
    rule, text = load_rule(name), export(name, "latex")
    equations = text.split(r"\begin{aligned}")[1].split(r"\end{aligned}")[0]
    assert (
        equations.count("&=")
        == len(rule.program.live.state) + len(rule.program.live.where) + len(rule.program.init) + 2
    )
    for constant, value in rule.constants.items():
        assert re.search(rf"\\texttt\{{{re.escape(constant.replace('_', chr(92) + '_'))}\}} & \$", text), (
            constant,
            value,
        )
    assert text.count("{") == text.count("}")


def test_latex_says_what_progress_and_shapes_are() -> None:
    assert "progress = min(t/T, 1)." in export("ademamix", "latex")
    assert r"fan\_out of its rows and fan\_in of its columns." in export("muon", "latex")
    assert "progress" not in export("adam", "latex") + export("muon", "latex")
    assert r"c_{0} &= \frac{" in export(RULES["rows and columns"], "latex")


@pytest.mark.parametrize("text", [*HOSTILE, r"\input{/etc/passwd} $x$ % & # ^ _ ~ \end{document}"])
def test_latex_escapes_texts(text: str) -> None:
    body = export(rule_called(text, {text: text}), "latex")
    for escape in (r"\\text[a-z]+\{\}", r"\\[{}$&#_%]"):
        body = re.sub(escape, "", body)
    plain = export(rule_called("plain", {"plain": "plain"}), "latex")
    assert set(re.findall(r"\\\w+", body)) == set(re.findall(r"\\\w+", plain))
    assert body.count("$") == plain.count("$")
    assert "%" not in body


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex compiles the LaTeX where TeX is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    latin = "".join(map(chr, range(0x20, 0x180)))
    rules = [
        RULES["every operator"],
        RULES["lags"],
        RULES["cf1"],
        RULES["rows and columns"],
        rule_called("\n".join(HOSTILE), {"a": latin[:200], "b": latin[200:]}),
    ]
    for rule in rules:
        (tmp_path / "rule.tex").write_text(export(rule, "latex"), encoding="utf-8")
        command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "rule.tex"]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        if "standalone.cls' not found" in found.stdout:
            pytest.skip("the class standalone is missing: install texlive-latex-extra")
        assert found.returncode == 0, found.stdout[-2000:]
