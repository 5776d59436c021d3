"""``closedform tune``: meta-tune a rule's constants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from closedform import tasks
from closedform.cli import _training as options
from closedform.cli._app import STDOUT, DataDir, Device, JsonFlag, Out, Resume, Seed, TaskName, app, show
from closedform.meta_training import TUNING, TUNING_UNROLL, meta_tune
from closedform.rules import load_rule, save_rule


@app.command("tune")
def tune(
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file.")],
    task: TaskName = ["mlp-digits"],  # noqa: B006  (typer reads it, nobody changes it)
    out: Out = Path("runs/tune"),
    trainable: Annotated[
        str | None,
        typer.Option(help="Constants to tune, comma-separated, lr among them if wanted; all but floors by default."),
    ] = None,
    estimator: options.EstimatorName = "truncated-bptt",
    unroll: options.Unroll = None,
    std: options.Std = None,
    pairs: options.Pairs = None,
    coordinates: options.Coordinates = None,
    second_order: options.SecondOrder = False,
    steps: options.Steps = TUNING.steps,
    lr: options.Lr = TUNING.lr,
    final_lr: options.FinalLr = TUNING.final_lr,
    warmup: options.Warmup = TUNING.warmup,
    horizon: options.Horizon = None,
    batch: options.Batch = TUNING.batch,
    side_by_side: options.SideBySide = TUNING.side_by_side,
    objective: options.ObjectiveName = TUNING.objective,
    normalise: options.Normalise = TUNING.normalise,
    random_scaling: options.RandomScaling = TUNING.random_scaling,
    clip: options.Clip = TUNING.clip,
    validate_every: options.ValidateEvery = TUNING.validate_every,
    validation_episodes: options.ValidationEpisodes = TUNING.validation_episodes,
    time_limit: options.TimeLimit = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    tensorboard: options.TensorBoard = False,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Meta-tune a rule's constants on tasks."""
    config = replace(
        TUNING,
        steps=steps,
        horizon=horizon,
        lr=lr,
        warmup=warmup,
        final_lr=final_lr,
        batch=batch,
        side_by_side=side_by_side,
        objective=objective,
        normalise=normalise,
        random_scaling=random_scaling,
        clip=clip,
        seed=seed,
        validate_every=validate_every,
        validation_episodes=validation_episodes,
        time_limit=time_limit,
    )
    if unroll is None and estimator == "truncated-bptt":
        unroll = TUNING_UNROLL
    chosen = options.make_estimator(
        estimator, unroll=unroll, std=std, pairs=pairs, coordinates=coordinates, second_order=second_order
    )
    subject = load_rule(rule)
    trained_on = [tasks.get(name, data_dir=data_dir).to(device) for name in task]
    with options.followed("meta-tuning", steps, out, tensorboard) as follow:
        tuned = meta_tune(
            subject,
            trained_on,
            trainable=trainable.split(",") if trainable else None,
            estimator=chosen,
            config=config,
            out=out,
            resume=resume,
            progress=follow,
        )
    path = save_rule(tuned, out / "rule.json")
    found = {"rule": str(path), "constants": tuned.constants, "lr": tuned.lr}
    show(found, json, lambda: STDOUT.print_json(data=found))
