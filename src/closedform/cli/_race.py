"""``closedform race``: tune a rule's constants on one task by whole training runs, on processes or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform import tasks
from closedform.cli._app import STDOUT, DataDir, Device, JsonFlag, Resume, Seed, Trainable, app, show
from closedform.cli._progress import bar
from closedform.meta_training import RaceConfig, race
from closedform.rules import load_rule


@app.command("race")
def race_rule(
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file: where the search starts.")],
    task: Annotated[str, typer.Option("--task", help="A task (closedform tasks).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the rule and the candidates so far.")] = Path(
        "runs/race"
    ),
    trainable: Trainable = None,
    generations: Annotated[int, typer.Option(help="Generations.")] = RaceConfig.generations,
    population: Annotated[int, typer.Option(help="Candidates a generation.")] = RaceConfig.population,
    rungs: Annotated[int, typer.Option(help="Horizons over which a generation is run.")] = RaceConfig.rungs,
    factor: Annotated[int, typer.Option(help="How much longer, and fewer, from rung to rung.")] = RaceConfig.factor,
    steps: Annotated[int | None, typer.Option(help="Steps of a whole run; the task's own by default.")] = None,
    sigma: Annotated[float, typer.Option(help="Initial spread of the search.")] = RaceConfig.sigma,
    finals: Annotated[int, typer.Option(help="Fresh seeds on which the best is chosen.")] = RaceConfig.finals,
    workers: Annotated[
        str, typer.Option(help="Processes, or a cluster: ray, ray://HOST:PORT, dask://HOST:PORT.")
    ] = "1",
    time_limit: Annotated[float | None, typer.Option(help="Begin no generation after so many seconds.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    data_dir: DataDir = None,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Tune a rule's constants on one task by whole training runs, on processes or a cluster."""
    config = RaceConfig(
        generations=generations,
        population=population,
        rungs=rungs,
        factor=factor,
        steps=steps,
        sigma=sigma,
        finals=finals,
        seed=seed,
        workers=int(workers) if workers.isdecimal() else workers,
        time_limit=time_limit,
    )
    problem = tasks.get(task, data_dir=data_dir).to(device)
    with bar("racing") as progress:
        found = race(
            load_rule(rule),
            problem,
            trainable=trainable.split(",") if trainable else None,
            config=config,
            out=out,
            resume=resume,
            progress=progress,
            on_record=progress.record,
        )
    told = found.provenance["race"]
    result = {"rule": str(out / "rule.json"), "constants": found.constants, "lr": found.lr}
    result |= {"kept": told["kept"], "final_losses": told["final_losses"]}
    show(result, json, lambda: STDOUT.print_json(data=result))
