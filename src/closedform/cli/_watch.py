"""``closedform watch``: a rule at work, term by term."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from closedform import tasks
from closedform.analysis import Watch, watch
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Seed, app, check_suffix, show
from closedform.cli._progress import bar
from closedform.report import write_watch
from closedform.rules import load_rule


@app.command("watch")
def watch_rule(
    rule: Annotated[str, typer.Argument(help="A library name or a path to a rule file.")],
    task: Annotated[str, typer.Option("--task", help="What to train.")] = "mlp-digits",
    steps: Annotated[int, typer.Option(help="Steps to train.")] = 200,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("runs/watch.html"),
    seed: Seed = 0,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """See a rule at work: what each term of its equation contributes to the update."""
    check_suffix(out, ".html", "a page")
    chosen, loaded = tasks.get(task, data_dir=data_dir), load_rule(rule)
    with bar("watching") as progress:
        seen = watch(loaded, chosen, steps=steps, seed=seed, progress=progress)
    write_watch(out, seen, loaded)
    show(seen.to_dict() | {"page": str(out)}, json, lambda: _print(seen, out))


def _print(seen: Watch, out: Path) -> None:
    table = Table("term", *(Column(part, justify="right") for part in ("first third", "second third", "last third")))
    whole = seen.whole()
    cuts = [round(k * len(whole) / 3) for k in range(4)]
    for k, term in enumerate(seen.terms):
        parts = [[row[k] for row in whole[a:b] if row[k] == row[k]] for a, b in pairwise(cuts)]
        table.add_row(term, *(f"{sum(part) / len(part):.1%}" if part else "" for part in parts))
    STDOUT.print(table)
    if seen.diverged_at is not None:
        STDOUT.print(f"diverged at step {seen.diverged_at}")
    STDOUT.print(f"page: {out}")
