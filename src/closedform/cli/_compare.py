"""``closedform compare``: optimizers side by side, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from closedform import tasks
from closedform.analysis import Comparison, compare
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Seed, app, show
from closedform.cli._progress import bar
from closedform.evaluation import evaluate
from closedform.report import write_comparison


@app.command("compare")
def compare_optimizers(
    optimizers: Annotated[list[str], typer.Argument(help="Library rules, rule files, networks that ship, or files.")],
    task: Annotated[str, typer.Option("--task", help="Whose gradients they are run over.")] = "mlp-digits",
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("runs/compare.html"),
    losses: Annotated[
        bool, typer.Option("--losses", help="Train the task with each, three seeds, and show it.")
    ] = False,
    seed: Seed = 0,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Put optimizers side by side on one page: equations, memories, answers, certificates, and a map."""
    chosen = tasks.get(task, data_dir=data_dir)
    with bar("comparing") as progress:
        found = compare(optimizers, chosen, seed=seed, progress=progress)
    trained = None
    if losses:
        with bar("training") as progress:
            entrants = {row.name: row.optimizer for row in found.rows}
            trained = evaluate(entrants, [chosen], seeds=3, baselines=(), progress=progress)
    write_comparison(out, found, trained)
    show(found.to_dict() | {"page": str(out)}, json, lambda: _print(found, out))


def _print(found: Comparison, out: Path) -> None:
    names = ("optimizer", "kind", "nodes", "state cost", "looks back (steps)", "averages over")
    table = Table(*(Column(name, justify="left" if k < 2 else "right") for k, name in enumerate(names)))
    for row in found.rows:
        spectrum = row.portrait.spectrum if row.portrait else None
        table.add_row(
            row.name,
            row.kind,
            "" if row.complexity is None else str(row.complexity),
            f"{row.state_cost:g}",
            row.perception.gradient.told if row.perception else row.problem,
            f"{spectrum.averaging:.3g}" if spectrum else "",
        )
    STDOUT.print(table)
    for row in found.rows:
        if row.nearest is not None:
            STDOUT.print(f"{row.name}: {row.nearest.sentence}", markup=False, highlight=False)
    STDOUT.print(f"page: {out}")
