"""``closedform tasks``: what can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from closedform import tasks
from closedform.cli._app import STDOUT, DataDir, JsonFlag, app, show


@app.command("tasks")
def list_tasks(data_dir: DataDir = None, json: JsonFlag = False) -> None:
    """List the tasks, with their sizes, the data they need, and whether it is here."""
    rows = [_row(name, data_dir) for name in tasks.TASKS]
    show(rows, json, lambda: STDOUT.print(_table(rows)))


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


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("task", "parameters", "horizon", "data", "here", "source", title="Tasks")
    for row in rows:
        here = "yes" if row["available"] else f"no: {row['how_to_get_it']}"
        table.add_row(row["name"], str(row["parameters"]), str(row["horizon"]), row["data"], here, row["source"])
    return table
