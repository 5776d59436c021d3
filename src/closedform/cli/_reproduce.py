"""``closedform reproduce``: the paper's tables beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform._names import lookup
from closedform.cli._app import RANK, STDOUT, DataDir, JsonFlag, Out, app, show
from closedform.cli._given import given_to
from closedform.cli._progress import bar
from closedform.reproduce import REPRODUCTIONS


@app.command("reproduce")
def reproduce(
    table: Annotated[str, typer.Argument(help=f"One of: {', '.join(REPRODUCTIONS)}.")],
    seeds: Annotated[int | None, typer.Option(help="Seeds; the table's own number by default.")] = None,
    out: Out = Path("runs/reproduce"),
    data_dir: DataDir = None,
    entrants: Annotated[
        str | None, typer.Option(help="Baselines, library rules and rule files to compare, with commas between.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Much less of everything: shows that it runs.")] = False,
    json: JsonFlag = False,
) -> None:
    """Print one of the paper's tables beside ours."""
    function = lookup("table", table, REPRODUCTIONS)
    names = None if entrants is None else [name for name in entrants.split(",") if name]
    what = f"the table {table}"
    options = given_to(function, what, seeds=seeds, data_dir=data_dir, quick=quick, entrants=names)
    with bar(table) as progress:
        found = function(out=out, progress=progress, **options)
    if json and not RANK:
        typer.echo(found.to_json(), nl=False)
    else:
        show(None, False, lambda: STDOUT.print(found.table(), f"written to {out}", sep="\n"))
