"""``closedform train | record | tune``: learn an optimizer, watch it at work, tune a rule's constants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from closedform import learned_optimizers, tasks
from closedform.cli._app import STDOUT, DataDir, Device, JsonFlag, Out, Resume, Seed, app, show
from closedform.cli._progress import bar
from closedform.distillation import BACKENDS, DistillConfig, distill
from closedform.learned_optimizers import LEARNED_OPTIMIZERS
from closedform.meta_training import TUNING, MetaTrainConfig, MetaTrainResult, TruncatedBPTT, meta_train, meta_tune
from closedform.rules import load_rule, save_rule
from closedform.trajectories import RecordConfig, load_trajectories, record, save_trajectories

TaskName = Annotated[list[str], typer.Option("--task", help="A task (closedform tasks); repeat it for several.")]
TimeLimit = Annotated[float | None, typer.Option(help="Stop early after so many seconds.")]
Unroll = Annotated[int, typer.Option(help="Steps of a truncated window.")]


@app.command("train")
def train(
    optimizer: Annotated[str, typer.Argument(help=f"One of: {', '.join(LEARNED_OPTIMIZERS)}.")] = "rp-si",
    task: TaskName = ["mlp-digits"],  # noqa: B006  (typer reads it, nobody changes it)
    out: Out = Path("runs/train"),
    steps: Annotated[int, typer.Option(help="Meta-steps.")] = MetaTrainConfig.steps,
    lr: Annotated[float, typer.Option(help="The meta-optimizer's learning rate.")] = MetaTrainConfig.lr,
    unroll: Unroll = 20,
    horizon: Annotated[int | None, typer.Option(help="Steps of an episode; the task's own by default.")] = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Meta-train a learned optimizer on tasks."""
    config = MetaTrainConfig(steps=steps, lr=lr, horizon=horizon, seed=seed, time_limit=time_limit)
    model = learned_optimizers.get(optimizer, generator=torch.Generator().manual_seed(seed))
    chosen = [tasks.get(name, data_dir=data_dir).to(device) for name in task]  # refuses a device that is not there
    with bar("meta-training") as progress:
        result = meta_train(
            model.to(device),
            chosen,
            estimator=TruncatedBPTT(unroll),
            config=config,
            out=out,
            resume=resume,
            progress=lambda found: progress.meta_step(steps, found),
        )
    found = {**_training_summary(result), "model": str(out / "model.safetensors")}
    show(found, json, lambda: _print_training(found))


@app.command("record")
def record_trajectories(
    optimizer: Annotated[str, typer.Argument(help="A trained model's file, a rule file, or a library rule.")],
    task: TaskName = ["mlp-digits"],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("runs/trajectories.safetensors"),
    steps: Annotated[int, typer.Option(help="Steps of an episode.")] = RecordConfig.steps,
    episodes: Annotated[int, typer.Option(help="Episodes of each task.")] = RecordConfig.episodes,
    samples: Annotated[int, typer.Option(help="Rows to keep.")] = RecordConfig.samples,
    window: Annotated[int, typer.Option(help="Steps that the columns look back.")] = RecordConfig.window,
    features: Annotated[
        str | None, typer.Option(help="Columns, comma-separated; the optimizer's own by default.")
    ] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Record an optimizer at work: its features and its updates."""
    wanted = tuple(features.split(",")) if features else None
    config = RecordConfig(steps=steps, episodes=episodes, samples=samples, window=window, features=wanted, seed=seed)
    path = Path(optimizer)
    source = learned_optimizers.load_learned_optimizer(path) if path.suffix == ".safetensors" else load_rule(optimizer)
    chosen = [tasks.get(name, data_dir=data_dir) for name in task]
    with bar("recording") as progress:
        found = record(source, chosen, config, on_step=lambda done, total: progress(done, total))
    save_trajectories(found, out)
    columns = tuple(column.name for column in found.columns)
    summary = {"rows": len(found.updates), "columns": columns, "file": str(out)}
    show(summary, json, lambda: STDOUT.print(f"{summary['rows']} rows of {', '.join(columns)} -> {out}"))


@app.command("distill")
def distill_recording(
    trajectories: Annotated[Path, typer.Argument(help="What closedform record wrote.")],
    out: Out = Path("runs/distill"),
    backend: Annotated[str, typer.Option(help=f"Search by: {', '.join(BACKENDS)}.")] = "operon",
    time_limit: Annotated[
        float, typer.Option(help="Seconds; 0 runs the quick stages only.")
    ] = DistillConfig.time_limit,
    max_complexity: Annotated[int, typer.Option(help="Nodes of an equation.")] = DistillConfig.max_complexity,
    max_state_cost: Annotated[int | None, typer.Option(help="Buffers a parameter of a rule; any by default.")] = None,
    generations: Annotated[int, typer.Option(help="Generations of the search.")] = DistillConfig.generations,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Distil a recording into rules: a hall of fame of error, complexity and state cost."""
    config = DistillConfig(
        time_limit=time_limit,
        max_complexity=max_complexity,
        max_state_cost=max_state_cost,
        generations=generations,
        seed=seed,
    )
    recording = load_trajectories(trajectories)
    with bar("distilling") as progress:
        hall = distill(
            recording,
            backend,
            config,
            on_progress=lambda at: progress(at.generation, generations, f"{at.stage} R^2 {1 - at.best_error:.4f}"),
        )
    hall.save(out / "hall_of_fame.json")
    path = save_rule(hall.select(), out / "rule.json")
    chosen = hall.choose()
    found = {"rule": str(path), "r2": chosen.r2, "complexity": chosen.complexity, "state_cost": chosen.state_cost}
    show(found, json, lambda: STDOUT.print(hall.table(), f"rule: {path}"))


@app.command("tune")
def tune(
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file.")],
    task: TaskName = ["mlp-digits"],  # noqa: B006
    out: Out = Path("runs/tune"),
    steps: Annotated[int, typer.Option(help="Meta-steps.")] = TUNING.steps,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Meta-tune a rule's constants on tasks."""
    chosen = [tasks.get(name, data_dir=data_dir) for name in task]
    config = replace(TUNING, steps=steps, seed=seed, time_limit=time_limit)
    with bar("meta-tuning") as progress:
        tuned = meta_tune(
            load_rule(rule),
            chosen,
            config=config,
            out=out,
            resume=resume,
            progress=lambda found: progress.meta_step(config.steps, found),
        )
    path = save_rule(tuned, out / "rule.json")
    found = {"rule": str(path), "constants": tuned.constants}
    show(found, json, lambda: STDOUT.print_json(data=found))


def _training_summary(result: MetaTrainResult) -> dict[str, Any]:
    return {
        "steps": result.step,
        "best_step": result.best_step,
        "best_validation": result.best_validation,
        "diverged": result.diverged,
        "seconds": round(result.seconds, 1),
    }


def _print_training(found: dict[str, Any]) -> None:
    STDOUT.print(
        f"{found['steps']} meta-steps in {found['seconds']} s; best validation {found['best_validation']:.4g} "
        f"at step {found['best_step']}; {found['diverged']} episodes diverged\nmodel: {found['model']}"
    )
