"""``closedform pick``: take one equation out of a hall of fame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform.cli._app import STDOUT, JsonFlag, app, show
from closedform.pipeline import read_equations
from closedform.rules import save_rule


@app.command("pick")
def pick(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of closedform distill, or a hall's file.")],
    nodes: Annotated[int | None, typer.Option(help="Nodes at most; any by default.")] = None,
    buffers: Annotated[int | None, typer.Option(help="Buffers a parameter at most; any by default.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The rule's file; picked.json beside the hall by default.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Take an equation out of a hall of fame: the most faithful one of a size.

    Without --nodes and --buffers, the one that describes the data shortest, which closedform distill chooses itself.
    """
    path, hall = read_equations(run)
    by_size = nodes is not None or buffers is not None
    entry = hall.choose(max_complexity=nodes, max_state_cost=buffers, tolerance=0 if by_size else None)
    written = None if entry.rule is None else str(save_rule(entry.rule, out or path.parent / "picked.json"))
    found = {
        "equation": entry.equation,
        "r2": entry.r2,
        "complexity": entry.complexity,
        "state_cost": entry.state_cost,
        "rule": written,
    }
    told = f"rule: {written}" if written else "an equation over a table's columns: there is no rule to write"
    sizes = f"{entry.complexity} nodes, {entry.state_cost} buffers, R² {entry.r2:.4f}"
    show(found, json, lambda: STDOUT.print(f"{entry.equation}\n{sizes}\n{told}", markup=False, highlight=False))
