"""``closedform tasks``: what can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from closedform import tasks
from closedform._plugins import Plugin, plugins
from closedform.cli._app import STDERR, STDOUT, DataDir, JsonFlag, app, show
from closedform.errors import OptionError
from closedform.tasks import Task


@app.command("tasks")
def list_tasks(data_dir: DataDir = None, json: JsonFlag = False) -> None:
    """List the tasks, with their sizes, the data they need, and whether it is here. With --json, their sources too."""
    rows = [_row(name, make(data_dir=data_dir)) for name, make in tasks.TASKS.items()]
    rows += [
        row for plugin in plugins("closedform.tasks", tasks.TASKS).values() if (row := _of_plugin(plugin, data_dir))
    ]
    show(rows, json, lambda: _render(rows))


def _of_plugin(plugin: Plugin, data_dir: Path | None) -> dict[str, Any] | None:
    """A plug-in's row; one that does not work costs a warning and nothing else."""
    try:
        return _row(plugin.name, plugin.load()(data_dir=data_dir))
    except Exception as error:  # somebody's code
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = said if isinstance(error, OptionError) else f"plug-in {plugin.name} of {plugin.package} fails: {said}"
        STDERR.print(f"warning: {text}", markup=False, highlight=False, soft_wrap=True)
        return None


def _row(name: str, task: Task) -> dict[str, Any]:
    """What there is to say of a task; unlike tasks.get, this downloads nothing."""
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
