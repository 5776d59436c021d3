"""``closedform report``: a page on one run or several, finished or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform.cli._app import STDOUT, JsonFlag, app, check_suffix, show
from closedform.pipeline import write_runs_report


@app.command("report")
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that run, train, tune, evolve, distill or evaluate write to.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; report.html in the folder, or runs/report.html of several.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Write a page on a run so far, or on several, side by side: learning curves, equations, comparison."""
    if out is not None:
        check_suffix(out, ".html", "a page")
    path = write_runs_report(runs, out or (runs[0] / "report.html" if len(runs) == 1 else Path("runs/report.html")))
    show({"report": str(path)}, json, lambda: STDOUT.print(f"report: {path}", highlight=False))
