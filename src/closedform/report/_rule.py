"""The report's sections about the rule: how it was learned, chosen, what it says and how it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from closedform.analysis import Response, ResponseCurves
from closedform.evaluation import ABSENT, count, number, percent, rate
from closedform.lang import OPERATORS, Apply, Program, substitute, symbol_latex, to_text, walk
from closedform.learned_optimizers import lift_literals
from closedform.report._equations import rule_mathml, symbol_html, tidy_signs
from closedform.report._page import Block, Code, Equations, Figure, Folded, Row, Table, TableColumn, Text
from closedform.report._plots import MANY, HallPoint, Panel, Series, hall_of_fame, responses, training_curve
from closedform.rules import Rule

if TYPE_CHECKING:
    from closedform.distillation import Entry as HallEntry

_EXACT = 1e-16
"""Errors below this, down to 0, are drawn here: the axis is logarithmic."""
_LONG_TABLE = 12
"""Equations of a hall above which only those that are best for their size are shown at once."""
_UNUSUAL = {"spow", "ssqrt", "slog", "relu", "clip", "greater", "where", "mean", "rms", "norm"}
Records = Sequence[Mapping[str, Any]]
"""Records of meta-training's ``metrics.jsonl``: ``step``, ``meta_loss``, ``validation``."""


def training(records: Records, what: str, name: str) -> list[Block]:
    """A curve of meta-training or meta-tuning, with a sentence on its validation."""
    steps = [row for row in records if row.get("meta_loss") is not None]
    checks = [row for row in records if row.get("validation") is not None]
    train = Series("meta-loss of each window", [row["step"] for row in steps], [row["meta_loss"] for row in steps])
    found = Series("validation: final loss", [row["step"] for row in checks], [row["validation"] for row in checks])
    if not steps and not checks:
        return [Text("Nothing was recorded.", "note")]
    caption = f"{what} took {number_of_steps(records)} meta-steps."
    if len(steps) > MANY:
        caption += (
            " The meta-loss swings with the place of the window in its episode; the thick line is a running mean."
        )
    if checks:
        best = min(checks, key=lambda row: float(row["validation"]))
        caption += (
            " The validation (mean final loss over fixed episodes of the meta-training half) went from "
            f"{number(found.y[0])} to {number(best['validation'])} at meta-step {best['step']}, the one kept."
        )
    return [Figure(training_curve(train, found, name, what), caption)]


def evolution(records: Records) -> list[Block]:
    """A curve of evolution's scores, generation by generation."""
    if not records:
        return [Text("Nothing was recorded.", "note")]
    checks = [row for row in records if row.get("validation") is not None]
    score = Series("score of each generation's mean", *_columns(records, "generation", "score"))
    found = Series("score on fresh episodes", *_columns(checks, "generation", "validation"))
    caption = (
        f"CMA-ES took {len(records)} generations. A score is the log of the final loss over that of tuned AdamW with a "
        "cosine, in units of what twice the steps bring AdamW: below 0 is better. Every generation has new episodes."
    )
    if checks:
        best = min(checks, key=lambda row: float(row["validation"]))
        caption += f" Kept is generation {best['generation']}, with {number(best['validation'])} on fresh episodes."
    return [Figure(training_curve(score, found, "evolution", "Evolution", "generation"), caption)]


def _columns(records: Records, x: str, y: str) -> tuple[list[float], list[float]]:
    return [row[x] for row in records], [row[y] for row in records]


def number_of_steps(records: Records) -> int:
    """Meta-steps done."""
    return max((int(row.get("step") or 0) for row in records), default=0)


def hall(entries: Sequence[HallEntry], chosen: Rule | None) -> list[Block]:
    """The hall of fame, plotted and as a table."""
    ordered = sorted(entries, key=lambda entry: entry.complexity)
    picked = [chosen is not None and entry.rule.program == chosen.program for entry in ordered]
    points = [
        HallPoint(entry.complexity, max(entry.error, _EXACT), entry.state_cost, here)
        for entry, here in zip(ordered, picked, strict=True)
    ]
    plot = Figure(
        hall_of_fame(points, "hall"),
        "Each dot is an equation found by symbolic regression. Lower is closer to the network on held-out episodes "
        "(an error of 0.1 means R² = 0.9), further left is simpler, and fewer buffers take less memory. Complexity "
        "counts the nodes of the equation over its input features.",
    )
    columns = [
        TableColumn("nodes"),
        TableColumn("error, 1 − R²"),
        TableColumn("buffers"),
        TableColumn("update", "code"),
    ]
    rows: list[Row] = [
        (
            "chosen" if here else "",
            [count(entry.complexity), number(entry.error), count(entry.state_cost), _code(entry.rule)],
        )
        for entry, here in zip(ordered, picked, strict=True)
    ]
    if len(rows) <= _LONG_TABLE:
        return [plot, Table(columns, rows, css="wide")]
    best = [entry.error < min((other.error for other in ordered[:k]), default=inf) for k, entry in enumerate(ordered)]
    short = [row for row, keep, here in zip(rows, best, picked, strict=True) if keep or here]
    everything = Folded(f"All {len(rows)} equations", [Table(columns, rows, css="wide")])
    return [plot, Table(columns, short, css="wide"), everything]


def _code(rule: Rule) -> Markup:
    """The update as text whose numbers are not broken over lines."""
    return Markup(re.sub(r"[\d.]+e-\d+", r'<span class="whole">\g<0></span>', str(escape(shortened(rule)))))


def shortened(rule: Rule, limit: int = 400) -> str:
    """The update as text with numbers of three digits."""
    named = lift_literals(rule)
    values = {name: float(f"{value:.3g}") for name, value in named.constants.items()}
    text = to_text(tidy_signs(substitute(named.update, values)))
    return text if len(text) <= limit else f"{text[:limit]} …"


def equation(rule: Rule, before: Rule | None) -> list[Block]:
    """The rule typeset, its constants before and after tuning, and its LaTeX."""
    shown = lift_literals(rule) if before is not None else rule
    facts = (
        f"{rule.complexity} nodes with all recurrences, {count(rule.state_cost)} buffers a parameter, learning rate "
        f"η = {rate(rule.lr, 4)}; g is the gradient, w the parameter, t the step."
    )
    blocks: list[Block] = [Text(facts), Equations(rule_mathml(shown)), *_operators(rule)]
    blocks += constants(shown, before and lift_literals(before))
    if shown.constants:
        filled = {name: _rounded(value) for name, value in shown.constants.items()}
        program = shown.program.live
        numeric = Program(
            {},
            {name: substitute(expr, filled) for name, expr in program.state.items()},
            {name: substitute(expr, filled) for name, expr in program.where.items()},
            {"update": substitute(shown.update, filled)},
        )
        whole = rule_mathml(Rule(rule.name, numeric, rule.lr), digits=7)
        blocks.append(Folded("With its numbers put in", [Equations(whole)]))
    return [*blocks, Folded("LaTeX", [Code(rule.latex())]), Folded("Rule file", [Code(rule.to_json())])]


def _rounded(value: float) -> float:
    """Four digits; more for a decay near 1, of which the distance from 1 is what counts."""
    return 1 - float(f"{1 - value:.3g}") if 0.9 < value < 1 else float(f"{value:.4g}")


def _operators(rule: Rule) -> list[Block]:
    """What the operators mean that have no notation of their own in mathematics."""
    used = {node.op for expr in rule.program.live.expressions() for node in walk(expr) if isinstance(node, Apply)}
    meanings = [f"{name}: {OPERATORS[name].meaning}" for name in sorted(used & _UNUSUAL)]
    return [Text("; ".join(meanings) + ".", "note")] if meanings else []


def constants(rule: Rule, before: Rule | None) -> list[Block]:
    """Constants and learning rate, with their values before tuning if there was one."""
    live = rule.program.live.constants
    if not live and before is None:
        return []
    after = {**live, "eta": rule.lr}
    rows: list[Row]
    if before is None:
        rows = [("", [symbol_html(name), _constant(value)]) for name, value in after.items()]
        return [Table([TableColumn("constant", ""), TableColumn("value")], rows)]
    old = {**before.constants, "eta": before.lr}
    columns = [TableColumn("constant", ""), TableColumn("distilled"), TableColumn("tuned"), TableColumn("change")]
    rows = [
        ("", [symbol_html(name), _constant(old.get(name)), _constant(value), _change(old.get(name), value)])
        for name, value in after.items()
    ]
    return [Table(columns, rows, "Constants before and after meta-tuning; η is the rule's own learning rate.")]


def _constant(value: float | None) -> str:
    return rate(value if value is None else _rounded(value), 7)


def _change(before: float | None, after: float) -> str:
    if before is None or before == 0:
        return ABSENT
    if before == after:
        return ABSENT
    share = (after - before) / abs(before)
    return ("+" if share > 0 else "") + percent(share)


def response(curves: ResponseCurves) -> list[Block]:
    """Response curves of equation and network."""
    fits = "; ".join(f"{label} R² = {number(value)}" for label, value in curves.fidelity.items())
    caption = (
        "Blue: the network, with the 10 % to 90 % band of its updates, which depend on its hidden state. Other solid "
        f"lines: the equations run over the same {curves.rows} rows of the recording. Dotted: the equation with all "
        "else at its median. By gradient: the present gradient of every parameter is replaced by a multiple of its "
        "root mean square, with the state that network and equation really have there. "
        f"Against the recorded updates: {fits}."
    )
    return [Figure(responses([_panel(view) for view in curves.responses], "responses"), caption)]


def _panel(view: Response) -> Panel:
    by_gradient = view.input == "gradient"
    symbol = f"${symbol_latex(view.input)}$" if not by_gradient else ""
    return Panel(
        "by gradient" if by_gradient else f"by feature {symbol}",
        "gradient / its root mean square" if by_gradient else symbol,
        view.x,
        ("network", view.network) if view.network else None,
        view.band,
        view.rules,
        view.shapes,
    )
