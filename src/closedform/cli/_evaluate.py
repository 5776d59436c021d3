"""``closedform evaluate``: compare optimizers, baselines tuned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from closedform import tasks
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Out, Resume, Seed, app, show
from closedform.cli._progress import bar
from closedform.errors import OptionError
from closedform.evaluation import BASELINES, DEFAULT_BASELINES, SCHEDULES, EvaluationOptions, evaluate


@app.command("evaluate")
def evaluate_optimizers(
    optimizers: Annotated[
        list[str] | None, typer.Argument(help="Rule files, trained models, library rules; name=path gives a name.")
    ] = None,
    task: Annotated[list[str], typer.Option("--task", help="A task; repeat it for several.")] = ["mlp-digits"],  # noqa: B006
    baselines: Annotated[str, typer.Option(help=f"Tuned baselines, of: {', '.join(BASELINES)}.")] = ",".join(
        DEFAULT_BASELINES
    ),
    schedules: Annotated[
        str, typer.Option(help=f"Schedules that baselines are tuned over, of: {', '.join(SCHEDULES)}.")
    ] = "constant",
    steps: Annotated[int | None, typer.Option(help="Steps of an episode; the task's own horizon by default.")] = None,
    seeds: Annotated[int, typer.Option(help="Reporting seeds.")] = 10,
    tuning_seeds: Annotated[int, typer.Option(help="Seeds that learning rates are tuned on.")] = 3,
    seed: Seed = 0,
    out: Out = Path("runs/evaluate"),
    data_dir: DataDir = None,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Compare optimizers on tasks over seeds, with baselines of tuned learning rates."""
    chosen = [tasks.get(name, data_dir=data_dir) for name in task]
    options = EvaluationOptions(
        first_seed=seed, tuning_seeds=tuning_seeds, resume=resume, schedules=tuple(_listed(schedules))
    )
    with bar("comparing") as progress:
        found = evaluate(
            _named(optimizers or ()),
            chosen,
            steps=steps,
            seeds=seeds,
            baselines=_listed(baselines),
            config=options,
            out=out,
            progress=progress,
        )
    if json:
        typer.echo(found.to_json(), nl=False)
    else:
        show(None, False, lambda: STDOUT.print(found))


def _listed(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _named(given: Sequence[str]) -> dict[str, str]:
    """Name -> what it is the name of. Files are called by their stems, with their folders where these are the same."""
    pairs = [(name or _stem(path), path) for name, _, path in (text.rpartition("=") for text in given)]
    counts = Counter(name for name, _ in pairs)
    named: dict[str, str] = {}
    for name, path in pairs:
        unique = name if counts[name] == 1 or name == path else f"{Path(path).resolve().parent.name}/{name}"
        if unique in named:
            raise OptionError(f"two optimizers are called {unique}; name them: one={named[unique]} other={path}")
        named[unique] = path
    return named


def _stem(path: str) -> str:
    is_file = "/" in path or ("." in path and ":" not in path)  # and not module:Class
    return Path(path).stem if is_file else path
