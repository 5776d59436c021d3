"""``closedform tasks``: what can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from closedform import tasks
from closedform.cli._app import STDOUT, DataDir, JsonFlag, app, show


@app.command("tasks")
def list_tasks(data_dir: DataDir = None, json: JsonFlag = False) -> None:
    """List the tasks, with their sizes, the data they need, and whether it is here. With --json, their sources too."""
    rows = [_row(name, data_dir) for name in tasks.TASKS]
    show(rows, json, lambda: _render(rows))


def _row(name: str, data_dir: Path | None) -> dict[str, Any]:
    task = tasks.TASKS[name](data_dir=data_dir)  # unlike tasks.get, downloads nothing
    missing = task.available()
    return {
        "name": name,
        "parameters": task.size,
        "horizon": task.horizon,
        "data": task.data,
        "available": missing is None,
        "how_to_get_it": missing,
        "source": task.source,
    }


def _render(rows: list[dict[str, Any]]) -> None:
    """Print the table, which fits 80 columns, and below it what to do about the data that are not here."""
    table = Table("task", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("parameters", justify="right")
    table.add_column("steps", justify="right")
    table.add_column("data")
    table.add_column("here")
    for row in rows:
        here = "yes" if row["available"] else "no"
        table.add_row(row["name"], f"{row['parameters']:,}", str(row["horizon"]), row["data"], here)
    STDOUT.print(table)
    for line in dict.fromkeys(row["how_to_get_it"] for row in rows if not row["available"]):
        STDOUT.print(line, highlight=False, markup=False)
