"""``closedform evolve``: tune a rule's constants by CMA-ES over whole episodes of a distribution of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform._options import check_count
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Resume, Seed, Trainable, app, show
from closedform.cli._progress import bar
from closedform.meta_training import EvolveConfig, evolve
from closedform.rules import load_rule
from closedform.tasks.distribution import TaskDistribution


@app.command("evolve")
def evolve_rule(
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file: where the search starts.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the result and the run so far.")] = Path("runs/evolve"),
    trainable: Trainable = None,
    generations: Annotated[int, typer.Option(help="Generations.")] = EvolveConfig.generations,
    population: Annotated[int, typer.Option(help="Candidates a generation.")] = EvolveConfig.population,
    sigma: Annotated[float, typer.Option(help="Initial spread of the search.")] = EvolveConfig.sigma,
    tasks: Annotated[int, typer.Option(help="Tasks that a generation is judged on.")] = EvolveConfig.tasks,
    pool: Annotated[int, typer.Option(help="Tasks drawn, from which each generation takes some.")] = 48,
    horizon: Annotated[tuple[int, int], typer.Option(help="Shortest and longest episode, in steps.")] = (80, 2000),
    budget: Annotated[float, typer.Option(help="Most milliseconds of one core an episode may take.")] = 1000.0,
    validation: Annotated[bool, typer.Option(help="Choose on larger, longer tasks, one of each family.")] = True,
    validate_every: Annotated[int, typer.Option(help="Generations between validations.")] = EvolveConfig.validate_every,
    workers: Annotated[int, typer.Option(help="Processes.")] = EvolveConfig.workers,
    time_limit: Annotated[float | None, typer.Option(help="Stop early after so many seconds.")] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Tune a rule's constants by CMA-ES, by where whole episodes end, on tasks of many kinds."""
    check_count("pool", pool)
    config = EvolveConfig(
        generations=generations,
        population=population,
        tasks=tasks,
        sigma=sigma,
        validate_every=validate_every,
        seed=seed,
        workers=workers,
        time_limit=time_limit,
    )
    distribution = TaskDistribution(horizon=horizon, budget=budget, data_dir=data_dir)
    with bar("evolving") as progress:
        found = evolve(
            load_rule(rule),
            distribution.tasks(pool, seed),
            distribution.larger().one_of_each(seed) if validation else [],
            trainable=trainable.split(",") if trainable else None,
            config=config,
            out=out,
            resume=resume,
            progress=progress,
            on_record=progress.record,
        )
    score = found.provenance["evolution"]["validation_score"]
    result = {"rule": str(out / "rule.json"), "constants": found.constants, "lr": found.lr, "validation_score": score}
    show(result, json, lambda: STDOUT.print_json(data=result))
