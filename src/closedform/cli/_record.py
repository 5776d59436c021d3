"""``closedform record``: watch an optimizer at work."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from closedform import tasks
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Seed, TaskName, app, show
from closedform.cli._progress import bar
from closedform.errors import OptionError
from closedform.learned_optimizers import load_optimizer
from closedform.trajectories import RecordConfig, record, save_trajectories


@app.command("record")
def record_trajectories(
    optimizer: Annotated[
        str,
        typer.Argument(
            help="A trained model's file, one that ships, a rule file, a library rule, or module:Class of an optimizer."
        ),
    ],
    task: TaskName = ["mlp-digits"],  # noqa: B006  (typer reads it, nobody changes it)
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("runs/trajectories.safetensors"),
    steps: Annotated[int, typer.Option(help="Steps of an episode.")] = RecordConfig.steps,
    episodes: Annotated[int, typer.Option(help="Episodes of each task.")] = RecordConfig.episodes,
    samples: Annotated[int, typer.Option(help="Rows to keep.")] = RecordConfig.samples,
    window: Annotated[int, typer.Option(help="Steps that the columns look back.")] = RecordConfig.window,
    features: Annotated[
        str | None, typer.Option(help="Columns, comma-separated; the optimizer's own by default.")
    ] = None,
    opt: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for an optimizer that is imported; repeat it for several.")
    ] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Record an optimizer at work: its features and its updates."""
    wanted = tuple(features.split(",")) if features else None
    config = RecordConfig(steps=steps, episodes=episodes, samples=samples, window=window, features=wanted, seed=seed)
    chosen = [tasks.get(name, data_dir=data_dir) for name in task]
    with bar("recording") as progress:
        found = record(load_optimizer(optimizer, _options(opt or [])), chosen, config, progress=progress)
    save_trajectories(found, out)
    columns = tuple(column.name for column in found.columns)
    summary = {"rows": len(found.updates), "columns": columns, "file": str(out)}
    show(summary, json, lambda: STDOUT.print(f"{summary['rows']} rows of {', '.join(columns)} -> {out}"))


def _options(given: Sequence[str]) -> dict[str, Any]:
    """``lr=0.1``, ``betas=0.9,0.99``, ``nesterov=True``, ``mode=c``: values as Python writes them, or text."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError(f"--opt {text!r} must be NAME=VALUE, such as --opt lr=0.01")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
