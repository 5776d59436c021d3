"""``closedform record``: watch an optimizer at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform import tasks
from closedform.cli._app import STDERR, STDOUT, DataDir, JsonFlag, Seed, TaskName, app, check_suffix, show
from closedform.cli._given import optimizer_options
from closedform.cli._progress import bar
from closedform.errors import OptionError
from closedform.learned_optimizers import BlackBox, load_optimizer
from closedform.trajectories import MOST_COORDINATES, RecordConfig, record, save_trajectories


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
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Follow every parameter: for optimizers that read whole tensors."),
    ] = False,
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
    check_suffix(out, ".safetensors", "a recording")
    wanted = tuple(features.split(",")) if features else None
    if whole and len(task) > 1:
        raise OptionError("--whole follows every parameter of one task: name a single --task")
    config = RecordConfig(
        steps=steps,
        episodes=episodes,
        coordinates=MOST_COORDINATES if whole else RecordConfig.coordinates,
        samples=samples,
        window=window,
        features=wanted,
        seed=seed,
    )
    chosen = [tasks.get(name, data_dir=data_dir) for name in task]
    loaded = load_optimizer(optimizer, optimizer_options(opt or []))
    with bar("recording") as progress:
        found = record(loaded, chosen, config, progress=progress)
    if isinstance(loaded, BlackBox) and not loaded.coordinatewise and not whole:
        text = "note: its update of a parameter depends on other parameters; --whole records what distilling that needs"
        STDERR.print(text, markup=False, highlight=False, soft_wrap=True)
    save_trajectories(found, out)
    columns = tuple(column.name for column in found.columns)
    summary = {"rows": len(found.updates), "columns": columns, "file": str(out)}
    show(summary, json, lambda: STDOUT.print(f"{summary['rows']} rows of {', '.join(columns)} -> {out}"))
