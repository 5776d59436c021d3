"""The hall of fame on a page: a plot whose dots tell their equations and can be chosen, and a table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from markupsafe import Markup, escape

from closedform.evaluation import count, number
from closedform.lang import Expr, Number, parse, substitute, to_text, transform
from closedform.report._equations import tidy_signs
from closedform.report._page import Block, Figure, Folded, Live, Row, Table, TableColumn
from closedform.report._plots import HallPoint, hall_of_fame
from closedform.rules import Rule

if TYPE_CHECKING:
    from closedform.distillation import Entry, Equation

    Found: TypeAlias = Entry | Equation

_EXACT = 1e-16
"""Errors below this, down to 0, are drawn here: the axis is logarithmic."""
_LONG_TABLE = 12
"""Equations of a hall above which only those that are best for their size are shown at once."""
_CAPTION = (
    "Each dot is an equation found by symbolic regression. Lower is closer to the held-out rows (an error of 0.1 means "
    "R² = 0.9), further left is simpler, and fewer buffers take less memory. Complexity counts the nodes of the "
    "equation over its input features."
)
_LIVE = Markup(
    '<div class="live front" hidden>\n<p class="note">Point at a dot for its equation; click it for the command that '
    'takes it.</p>\n<output aria-live="polite"></output>\n<pre><code class="says"></code></pre>\n'
    '<pre><code class="takes"></code></pre>\n'
    '<script type="application/json">{data}</script>\n<script>{script}</script>\n</div>'
)
_COLUMNS = (TableColumn("nodes"), TableColumn("error, 1 − R²"), TableColumn("buffers"), TableColumn("update", "code"))


def hall(entries: Sequence[Found], chosen: Rule | str | None, folder: str = "RUN") -> list[Block]:
    """The hall of fame, plotted and as a table.

    Args:
        entries: Its equations.
        chosen: The one that was chosen: its rule, or its equation.
        folder: What ``closedform pick`` is told to take an equation from.
    """
    ordered = sorted(entries, key=lambda entry: (entry.complexity, entry.state_cost))
    picked = [_is(entry, chosen) for entry in ordered]
    texts = [_text(entry) for entry in ordered]
    points = [
        HallPoint(entry.complexity, max(entry.error, _EXACT), entry.state_cost, here)
        for entry, here in zip(ordered, picked, strict=True)
    ]
    rows: list[Row] = [
        ("chosen" if here else "", [count(entry.complexity), number(entry.error), count(entry.state_cost), _code(text)])
        for entry, here, text in zip(ordered, picked, texts, strict=True)
    ]
    blocks: list[Block] = [Figure(hall_of_fame(points, "hall"), _CAPTION)]
    if ordered:
        blocks.append(_live(ordered, texts, picked.index(True) if True in picked else 0, folder))
    if len(rows) <= _LONG_TABLE:
        return [*blocks, Table(_COLUMNS, rows, css="wide")]
    best = [entry.error < min((other.error for other in ordered[:k]), default=inf) for k, entry in enumerate(ordered)]
    short = [row for row, keep, here in zip(rows, best, picked, strict=True) if keep or here]
    everything = Folded(f"All {len(rows)} equations", [Table(_COLUMNS, rows, css="wide")])
    return [*blocks, Table(_COLUMNS, short, css="wide"), everything]


def most_faithful(entries: Sequence[Found]) -> Found | None:
    """The equation of least error, if there is one."""
    return min(entries, key=lambda entry: entry.error, default=None)


def _is(entry: Found, chosen: Rule | str | None) -> bool:
    if isinstance(chosen, str):
        return entry.equation == chosen
    return chosen is not None and entry.rule is not None and entry.rule.program == chosen.program


def _live(entries: Sequence[Found], texts: Sequence[str], chosen: int, folder: str) -> Live:
    """What makes the plot's dots tell their equations."""
    rows = [
        {"nodes": entry.complexity, "buffers": entry.state_cost, "r2": _r2(entry.error), "equation": text}
        for entry, text in zip(entries, texts, strict=True)
    ]
    data = {"name": "hall", "command": f"closedform pick {folder}", "chosen": chosen, "entries": rows}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    script = resources.files("closedform.report").joinpath("front.js").read_text(encoding="utf-8")
    return Live(_LIVE.format(data=Markup(text), script=Markup(script)))


def _r2(error: float) -> str:
    return f"1 − {error:.1g}" if 0 < error < 5e-5 else f"{1 - error:.4f}"


def _code(text: str) -> Markup:
    """An equation whose numbers are not broken over lines."""
    return Markup(re.sub(r"[\d.]+e-\d+", r'<span class="whole">\g<0></span>', str(escape(text))))


def _text(entry: Found, limit: int = 400) -> str:
    """The update, or the equation over a table, as text with numbers of three digits."""
    rule = entry.rule
    whole = parse(entry.equation) if rule is None else substitute(rule.update, rule.constants)
    text = to_text(tidy_signs(transform(whole, _rounded)))
    return text if len(text) <= limit else f"{text[:limit]} …"


def _rounded(node: Expr) -> Expr:
    return Number(float(f"{node.value:.3g}")) if isinstance(node, Number) else node
