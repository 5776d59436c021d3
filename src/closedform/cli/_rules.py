"""``closedform rules``, ``closedform explain`` and ``closedform export``: look at rules, and write them elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from closedform._files import write_text
from closedform.analysis import Certificates, Curve, Explanation, Perception, explain
from closedform.cli._app import STDOUT, JsonFlag, app, show
from closedform.cli._sparkline import sparkline
from closedform.export import EXPORTERS, export
from closedform.rules import Rule, library_names, load_rule

rules = typer.Typer(help="List, show and check rules.", no_args_is_help=True)
app.add_typer(rules, name="rules")

RuleName = Annotated[str, typer.Argument(help="A library name (closedform rules list) or a path to a rule file.")]


@rules.command("list")
def list_rules(json: JsonFlag = False) -> None:
    """List the rules that ship with closedform."""
    found = [load_rule(name) for name in library_names()]
    show([_summary(rule) for rule in found], json, lambda: STDOUT.print(_rule_table(found)))


@rules.command("show")
def show_rule(rule: RuleName) -> None:
    """Print a rule file."""
    typer.echo(load_rule(rule).to_json(), nl=False)


@rules.command("check")
def check_rules(paths: Annotated[list[Path], typer.Argument(help="Rule files.")], json: JsonFlag = False) -> None:
    """Check rule files: the first malformed one is named, with the place and the cause."""
    found = [load_rule(path) for path in paths]
    show([_summary(rule) for rule in found], json, lambda: STDOUT.print(_rule_table(found)))


@app.command("explain")
def explain_optimizer(
    optimizer: Annotated[str, typer.Argument(help="A library rule, a rule file, a network that ships, or its file.")],
    latex: Annotated[bool, typer.Option("--latex", help="Print only the LaTeX.")] = False,
    json: JsonFlag = False,
) -> None:
    """Explain an optimizer: equation, price, certificates, how far back it looks, and how it answers to gradients."""
    found = explain(optimizer)
    if latex:
        typer.echo(found.latex)
    else:
        show(found.to_dict(), json, lambda: _print_explanation(found))


def _summary(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "state_cost": rule.state_cost,
        "complexity": rule.complexity,
        "lr": rule.lr,
        "source": rule.provenance.get("source", ""),
    }


def _rule_table(rules: list[Rule]) -> Table:
    table = Table("rule", "state cost", "complexity", "default lr", "source", title="Rules")
    for rule in rules:
        row = _summary(rule)
        table.add_row(*(str(row[key]) for key in ("name", "state_cost", "complexity", "lr", "source")))
    return table


def _print_explanation(found: Explanation) -> None:
    out = STDOUT
    nodes = "" if found.complexity is None else f"complexity {found.complexity}, "
    out.print(f"[bold]{found.name}[/bold]   {nodes}state cost {found.state_cost} buffers a parameter")
    for line in found.equations:
        out.print("  " + line, markup=False, highlight=False)
    if found.equations:
        constants = ", ".join(f"{name} = {value:g}" for name, value in found.constants.items())
        out.print(f"  with {constants or 'no constants'}; lr = {found.lr:g}")
    if found.provenance.get("source"):
        out.print(f"  source: {found.provenance['source']}", markup=False, highlight=False)
    if found.provenance.get("lr"):
        out.print(f"  lr: {found.provenance['lr']}", markup=False, highlight=False)
    if found.certificates is not None:
        _print_certificates(found.certificates)
    _print_perception(found.perception)
    if found.portrait is not None:
        out.print()
        for line in found.portrait.sentences():
            out.print("- " + line, markup=False, highlight=False)
    for curve in (found.gradient_response, found.impulse_response, found.scale_response):
        if curve is not None:
            _print_curve(curve)
    if found.latex:
        out.print("\nLaTeX:")
        typer.echo(found.latex)


def _print_perception(found: Perception) -> None:
    table = Table("how far back", Column("field (steps)", justify="right"), "past the window", "by")
    for curve in found.curves:
        table.add_row(curve.input, curve.told, f"{curve.tail:.0%}" if curve.tail > 0.005 else "", curve.by)
    STDOUT.print("", table)
    for note in found.notes:
        STDOUT.print(f"  {note}", markup=False, highlight=False)


def _print_certificates(certificates: Certificates) -> None:
    table = Table(Column("certificate", no_wrap=True), "value", "known by", "note")
    for entry in certificates:
        table.add_row(entry.claim, entry.answer, entry.by, entry.note)
    STDOUT.print("", table)


def _print_curve(curve: Curve) -> None:
    STDOUT.print(f"\n{curve.y_label} over {curve.x_label}", markup=False, highlight=False)
    finite = [y for y in curve.y if math.isfinite(y)]
    if not finite:
        STDOUT.print("  nowhere finite", markup=False, highlight=False)
        return
    low, high = min(finite), max(finite)
    STDOUT.print(
        f"  {sparkline(curve.y)}  x {curve.x[0]:g} .. {curve.x[-1]:g}, y {low:.3g} .. {high:.3g}",
        markup=False,
        highlight=False,
    )


_TARGETS = "; ".join(f"{row.name}: {row.summary} (needs {row.needs})" for row in EXPORTERS.values())


@app.command("export")
def export_rule(
    rule: RuleName,
    to: Annotated[str, typer.Option("--to", help=f"What to write. {_TARGETS}.")] = "python",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; standard output if left out.")] = None,
) -> None:
    """Write a rule as a torch optimizer, LaTeX, an optax transformation or a numpy reference."""
    text = export(rule, to)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"wrote {out}")
