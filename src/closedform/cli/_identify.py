"""``closedform identify``: which known optimizer a recording is of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from closedform.analysis import Nearest, nearest
from closedform.cli._app import STDOUT, JsonFlag, Seed, app, show
from closedform.trajectories import load_trajectories


@app.command("identify")
def identify(
    recording: Annotated[Path, typer.Argument(help="A file that closedform record wrote.")],
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", help="A rule to try, repeatable; else the library."),
    ] = None,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Say which known optimizer a recording is of, or which it is nearest to."""
    found = nearest(load_trajectories(recording), rule, seed=seed)
    show(found.to_dict(), json, lambda: _print(found))


def _print(found: Nearest) -> None:
    STDOUT.print(found.sentence, markup=False, highlight=False)
    if found.matches:
        table = Table("rule", "R²", "1 - R²", "cosine", "size", "nodes", "state cost", title="nearest rules, refitted")
        for match in found.matches[:5]:
            numbers = (f"{match.r2:.4f}", f"{1 - match.r2:.1e}", f"{match.cosine:.4f}", f"{match.magnitude:.3f}")
            table.add_row(match.name, *numbers, str(match.complexity), str(match.state_cost))
        STDOUT.print(table)
    if found.left_out:
        names = ", ".join(found.left_out)
        STDOUT.print(f"not tried, as they look at whole tensors: {names}", markup=False, highlight=False)
    STDOUT.print(f"judged on {found.cells} held-out updates, {found.seconds:.1f} s")
