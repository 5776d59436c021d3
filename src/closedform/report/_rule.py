"""The report's sections about the rule: how it was learned, what it says and how it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from closedform.analysis import Response, ResponseCurves
from closedform.evaluation import ABSENT, count, number, percent, rate
from closedform.lang import OPERATORS, Apply, Program, substitute, symbol_latex, walk
from closedform.learned_optimizers import lift_literals
from closedform.report._equations import rule_mathml, symbol_html
from closedform.report._page import Block, Code, Equations, Figure, Folded, Row, Table, TableColumn, Text
from closedform.report._plots import MANY, Panel, Series, responses, training_curve
from closedform.rules import Rule

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
