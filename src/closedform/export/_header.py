"""The docstring that opens an exported file: what it is, its equations, where the rule comes from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from closedform._version import __version__
from closedform.export._body import Body
from closedform.export._identifiers import clean, docstring_text
from closedform.export._printer import INDENT, WIDTH
from closedform.lang import Expr, Program, lags, rename, to_text
from closedform.rules import Rule

_MOST_ENTRIES = 24


def display_name(rule: Rule) -> str:
    """The rule's name as one line of text."""
    return clean(rule.name, 60) or "unnamed"


def provenance_lines(provenance: Mapping[str, Any]) -> list[str]:
    """One cleaned line an entry, ``source: Kingma & Ba 2015``."""
    entries = list(provenance.items())[:_MOST_ENTRIES]
    lines = [
        clean(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}")
        for key, value in entries
    ]
    return [*lines, "..."] if len(provenance) > len(entries) else lines


def title(rule: Rule, what: str) -> str:
    """The first line of a docstring."""
    return docstring_text(f'The rule "{display_name(rule)}" as {what}.')


def header(body: Body, what: str, moves: str, notes: list[str]) -> str:
    """The module docstring.

    Args:
        body: The rule in the file's dialect.
        what: What the file holds ("a torch optimizer").
        moves: How the parameter moves, an equation.
        notes: Paragraphs on how to use the file.
    """
    rule = body.rule
    paragraphs = [
        [f'"""{title(rule, what)}'],
        ["For every element of a parameter w with gradient g, at step t = 1, 2, ..."],
        [line for equation in [*equations(body), moves] for line in _wrapped(equation, INDENT, INDENT * 2)],
        *(_wrapped(note) for note in [*_legend(body), *notes]),
        [docstring_text(line) for entry in provenance_lines(rule.provenance) for line in _wrapped(entry, "", INDENT)],
        [f"Exported by closedform {__version__}."],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + '\n"""\n'


def equations(body: Body) -> list[str]:
    """The program in the rule language, under the names that the file uses."""

    def text(expr: Expr) -> str:
        return to_text(rename(expr, body.names))

    program = body.program
    return [
        *(f"{body.names[name]} at step 0 = {text(expr)}" for name, expr in program.init.items()),
        *(f"{body.names[name]} <- {text(expr)}" for name, expr in program.state.items()),
        *(f"{body.names[name]} = {text(expr)}" for name, expr in program.where.items()),
        f"update = {text(program.outputs['update'])}",
    ]


def _legend(body: Body) -> list[str]:
    """What the equations' notation means, as far as this rule uses it."""
    found = []
    if body.program.state:
        start = "0 before the first step" + (" if nothing else is said" if body.program.init else "")
        found.append(f"x <- ... is a state, {start}; the right-hand sides of states see old values.")
    found += meanings(body.program)
    deepest = [lags(expr) for expr in body.program.expressions()]
    if any(deepest):
        found.append("prev(x) is x one step ago, lag(x, k) is x k steps ago, 0 before the start.")
    renamed = [f"{own} is the rule's {name!r}" for name, own in body.names.items() if own != name]
    if renamed:
        found.append(f"Renamed, since this file uses the names itself: {', '.join(renamed)}.")
    return found


def meanings(program: Program) -> list[str]:
    """What the horizon, shapes and matrices are, as far as the program asks."""
    found = []
    if program.needs_total_steps:
        found.append("T is the number of all steps, total_steps, and progress = min(t/T, 1).")
    if program.needs_shapes or program.matrix_operators:
        found.append(
            "A tensor is the matrix [rows, columns] = [shape[0], the rest], a vector [n, 1]; numel is the number of "
            "its elements, ndim of its dimensions, fan_out of its rows and fan_in of its columns."
        )
    return found


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH - 8, initial_indent=first, subsequent_indent=rest, break_long_words=True, break_on_hyphens=False
    )
