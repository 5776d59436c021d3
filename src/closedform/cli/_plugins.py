"""``closedform plugins``: what other packages bring."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from closedform import learned_optimizers, tasks
from closedform._plugins import GROUPS, Plugin, plugins
from closedform.cli._app import STDOUT, JsonFlag, app, show
from closedform.distillation import BACKENDS
from closedform.errors import OptionError

_OURS: dict[str, dict[str, Any]] = {
    "closedform.tasks": dict(tasks.TASKS),
    "closedform.learned_optimizers": dict(learned_optimizers.LEARNED_OPTIMIZERS),
    "closedform.engines": dict(BACKENDS),
}


@app.command("plugins")
def list_plugins(json: JsonFlag = False) -> None:
    """List the tasks, learned optimizers and engines that other packages bring, and whether they can be imported."""
    rows = [_row(group, plugin) for group in GROUPS for plugin in plugins(group, _OURS[group]).values()]
    show(rows, json, lambda: _render(rows))


def _row(group: str, plugin: Plugin) -> dict[str, Any]:
    try:
        plugin.load()
        problem = None
    except OptionError as error:
        problem = str(error)
    return {"group": group, "name": plugin.name, "package": plugin.package, "problem": problem}


def _render(rows: list[dict[str, Any]]) -> None:
    if not rows:
        STDOUT.print("no plug-ins: packages bring them as entry points of the groups " + ", ".join(GROUPS))
        return
    table = Table("group", "name", "package", "works")
    for row in rows:
        table.add_row(row["group"], row["name"], row["package"], "no" if row["problem"] else "yes")
    STDOUT.print(table)
    for row in rows:
        if row["problem"]:
            STDOUT.print(row["problem"], markup=False, highlight=False, soft_wrap=True)
