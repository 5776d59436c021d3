"""``closedform distill``: from a recording to rules, from a table to equations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from closedform import tasks
from closedform._files import write_json
from closedform.analysis import Nearest, nearest
from closedform.cli._app import STDERR, STDOUT, DataDir, JsonFlag, Out, Seed, app, show
from closedform.cli._progress import bar
from closedform.distillation import (
    BACKENDS,
    PAPER_OPERATORS,
    READERS,
    SYMMETRIES,
    DistillConfig,
    EquationHall,
    HallOfFame,
    distill,
    distill_table,
    load_table,
    select,
)
from closedform.errors import OptionError
from closedform.rules import save_rule
from closedform.trajectories import load_trajectories

_TABLES = ", ".join(READERS)


@app.command("distill")
def distill_data(
    data: Annotated[Path, typer.Argument(help=f"What closedform record wrote, or a table ({_TABLES}).")],
    out: Out = Path("runs/distill"),
    backend: Annotated[str, typer.Option(help=f"Search by: {', '.join(BACKENDS)}.")] = "operon",
    time_limit: Annotated[
        float, typer.Option(help="Seconds; 0 runs the quick stages only.")
    ] = DistillConfig.time_limit,
    max_complexity: Annotated[int, typer.Option(help="Nodes of an equation.")] = DistillConfig.max_complexity,
    max_state_cost: Annotated[int | None, typer.Option(help="Buffers a parameter of a rule; any by default.")] = None,
    generations: Annotated[int, typer.Option(help="Generations of the search.")] = DistillConfig.generations,
    operators: Annotated[
        str, typer.Option(help="Operators of the search, comma-separated; or: paper, the paper's.")
    ] = ",".join(DistillConfig.operators),
    symmetries: Annotated[
        str, typer.Option(help=f"What rules must keep to: {', '.join(SYMMETRIES)}; auto: what the recording does.")
    ] = DistillConfig.symmetries,
    restarts: Annotated[int, typer.Option(help="Searches with seeds of their own, merged.")] = 1,
    seed: Seed = 0,
    target: Annotated[str | None, typer.Option(help="Table: the column to explain; the last one by default.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Table: the columns to explain it by, comma-separated; all others by default.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Table: the columns' names, comma-separated, where an .npy file has none.")
    ] = None,
    lags: Annotated[
        bool | None,
        typer.Option(
            help="Table: take columns x_3 for x three rows ago; by default where the rows bear it out, or where x_1 to "
            "x_5 or more are there: each row is a window then, and recurrences over it are searched too."
        ),
    ] = None,
    nonfinite_limit: Annotated[
        float, typer.Option(help="Share of rows that may lack a value; they are left out.")
    ] = DistillConfig.nonfinite_limit,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Choose by training on this task; with --unseen alone on the recorded ones."),
    ] = None,
    unseen: Annotated[
        list[str] | None, typer.Option("--unseen", help="Choose by training on this task too, which was not recorded.")
    ] = None,
    top: Annotated[int, typer.Option(help="Equations of least error that are tried so.")] = 5,
    length: Annotated[
        int | None, typer.Option(help="Steps of an episode that they train; each task's own by default.")
    ] = None,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Distil a recording into rules, or a table of data into equations.

    A table whose rows are windows (columns x, x_1, x_2, ...) gives rules too, where they read nothing else.

    What comes out is a hall of fame of error, complexity and state cost, and one choice of it. With --task or --unseen
    that is made by what rules do, not by R^2 alone: the most faithful ones train.
    """
    config = DistillConfig(
        time_limit=time_limit,
        max_complexity=max_complexity,
        max_state_cost=max_state_cost,
        generations=generations,
        operators=PAPER_OPERATORS if operators == "paper" else _split(operators) or (),
        symmetries=symmetries,
        restarts=restarts,
        nonfinite_limit=nonfinite_limit,
        seed=seed,
    )
    if data.suffix.lower() in READERS:
        if task or unseen:
            raise OptionError("equations over a table train nothing: leave out --task and --unseen")
        table = load_table(data, target, features=_split(features), columns=_split(columns), lags=lags)
        with bar("distilling") as progress:
            equations = distill_table(table, backend, config, progress=progress)
        _finish_table(equations, out, json)
        return
    if target or features or columns or lags is not None:
        raise OptionError(f"--target, --features, --columns and --lags are for tables ({_TABLES}), not for recordings")
    recording = load_trajectories(data)
    recorded = task or (recording.provenance.get("tasks", ()) if unseen else ())
    trained_on = [[tasks.get(name, data_dir=data_dir) for name in names or ()] for names in (recorded, unseen)]
    with bar("distilling") as progress:
        hall = distill(recording, backend, config, progress=progress)
    known = None if hall.interrupted else nearest(recording, seed=seed)
    _finish_rules(hall, known, trained_on, top, length, seed, out, json)


def _finish_table(hall: EquationHall, out: Path, json: bool) -> None:
    path = hall.save(out / "equations.json")
    chosen = hall.choose()
    rule = None if chosen.rule is None else str(save_rule(chosen.rule, out / "rule.json"))
    found = {
        "equations": str(path),
        "equation": chosen.equation,
        "r2": chosen.r2,
        "complexity": chosen.complexity,
        "rule": rule,
        "notes": _notes(hall),
    }
    lines = [f"chosen: {chosen.equation}", *([f"rule: {rule}"] if rule else []), f"equations: {path}"]
    show(found, json, lambda: _print(hall.table(), lines))
    _end(hall)


def _finish_rules(
    hall: HallOfFame,
    known: Nearest | None,
    trained_on: list[list[Any]],
    top: int,
    length: int | None,
    seed: int,
    out: Path,
    json: bool,
) -> None:
    hall.save(out / "hall_of_fame.json")
    notes = _notes(hall)
    selection = select(hall)
    path = save_rule(selection.rule, out / "rule.json")  # also there if the rest is interrupted
    by_training = any(trained_on) and not hall.interrupted
    if by_training:
        with bar("trying") as progress:
            selection = select(
                hall,
                trained_on[0],
                unseen=trained_on[1],
                top=top,
                length=length,
                first_seed=seed,
                progress=progress,
            )
        write_json(out / "selection.json", selection.rule.provenance["chosen"])
        save_rule(selection.rule, path)
    chosen, reason = selection.entry, selection.reason if by_training else None
    found = {
        "rule": str(path),
        "equation": chosen.equation,
        "r2": chosen.r2,
        "complexity": chosen.complexity,
        "state_cost": chosen.state_cost,
        "reason": reason,
        "nearest": known and {"verdict": known.verdict, "sentence": known.sentence},
        "notes": notes,
    }
    lines = [f"known optimizers: {known.sentence}"] if known else []
    lines += [f"chosen: {chosen.equation}", *([reason] if reason else []), f"rule: {path}"]
    show(found, json, lambda: _print(hall.table(chosen), lines))
    _end(hall)


def _print(table: Table, lines: Sequence[str]) -> None:
    STDOUT.print(table)
    for line in lines:
        STDOUT.print(line, markup=False, highlight=False, soft_wrap=True)


def _notes(hall: HallOfFame | EquationHall) -> list[str]:
    """What was left out; told on standard error too, whatever the format of the result."""
    notes = [str(note) for note in hall.provenance.get("notes", ())]
    for note in notes:
        STDERR.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    return notes


def _end(hall: HallOfFame | EquationHall) -> None:
    """An interrupted search wrote its best so far; its exit code says that it was interrupted."""
    if hall.interrupted:
        raise typer.Exit(130)


def _split(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())
