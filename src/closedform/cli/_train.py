"""``closedform train``: meta-train a learned optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from closedform import learned_optimizers, tasks
from closedform.cli import _training as options
from closedform.cli._app import STDOUT, DataDir, Device, JsonFlag, Out, Resume, Seed, TaskName, app, show
from closedform.errors import CheckpointError
from closedform.learned_optimizers import LEARNED_OPTIMIZERS, PRETRAINED, LearnedOptimizer, load_learned_optimizer
from closedform.meta_training import MetaTrainConfig, MetaTrainResult, meta_train

DEFAULT = "rp-si"


@app.command("train")
def train(
    optimizer: Annotated[
        str | None, typer.Argument(help=f"One of: {', '.join(LEARNED_OPTIMIZERS)}; {DEFAULT} by default.")
    ] = None,
    task: TaskName = ["mlp-digits"],  # noqa: B006  (typer reads it, nobody changes it)
    out: Out = Path("runs/train"),
    init: Annotated[str | None, typer.Option(help="Start from a trained model's weights: a file.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help=f"Start from weights that ship for: {', '.join(PRETRAINED) or 'none'}.")
    ] = False,
    estimator: options.EstimatorName = "truncated-bptt",
    unroll: options.Unroll = None,
    std: options.Std = None,
    pairs: options.Pairs = None,
    coordinates: options.Coordinates = None,
    second_order: options.SecondOrder = False,
    steps: options.Steps = MetaTrainConfig.steps,
    lr: options.Lr = MetaTrainConfig.lr,
    final_lr: options.FinalLr = MetaTrainConfig.final_lr,
    warmup: options.Warmup = MetaTrainConfig.warmup,
    horizon: options.Horizon = None,
    batch: options.Batch = MetaTrainConfig.batch,
    side_by_side: options.SideBySide = MetaTrainConfig.side_by_side,
    objective: options.ObjectiveName = MetaTrainConfig.objective,
    normalise: options.Normalise = MetaTrainConfig.normalise,
    random_scaling: options.RandomScaling = MetaTrainConfig.random_scaling,
    clip: options.Clip = MetaTrainConfig.clip,
    validate_every: options.ValidateEvery = MetaTrainConfig.validate_every,
    validation_episodes: options.ValidationEpisodes = MetaTrainConfig.validation_episodes,
    time_limit: options.TimeLimit = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    tensorboard: options.TensorBoard = False,
    resume: Resume = False,
    json: JsonFlag = False,
) -> None:
    """Meta-train a learned optimizer on tasks.

    Several processes: torchrun --nproc-per-node N -m closedform train ...
    """
    config = MetaTrainConfig(
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
    chosen = options.make_estimator(
        estimator, unroll=unroll, std=std, pairs=pairs, coordinates=coordinates, second_order=second_order
    )
    model = _model(optimizer, (optimizer or DEFAULT) if pretrained else init, seed)
    trained_on = [tasks.get(name, data_dir=data_dir).to(device) for name in task]  # refuses a device that is not there
    with options.followed("meta-training", steps, out, tensorboard) as follow:
        result = meta_train(
            model.to(device),
            trained_on,
            estimator=chosen,
            config=config,
            out=out,
            resume=resume,
            progress=follow,
        )
    found = {**_summary(result), "model": str(out / "model.safetensors")}
    show(found, json, lambda: _print(found))


def _model(name: str | None, init: str | None, seed: int) -> LearnedOptimizer:
    if init is None:
        return learned_optimizers.get(name or DEFAULT, generator=torch.Generator().manual_seed(seed))
    model = load_learned_optimizer(init)
    if name is not None and model.name != name:
        raise CheckpointError(
            f"{init} holds a {model.name!r}, not a {name!r}; leave the name out, or give another file"
        )
    return model


def _summary(result: MetaTrainResult) -> dict[str, Any]:
    return {
        "steps": result.step,
        "best_step": result.best_step,
        "best_validation": result.best_validation,
        "diverged": result.diverged,
        "seconds": round(result.seconds, 1),
    }


def _print(found: dict[str, Any]) -> None:
    best = found["best_validation"]
    validation = "no validation" if best is None else f"best validation {best:.4g} at step {found['best_step']}"
    STDOUT.print(
        f"{found['steps']} meta-steps in {found['seconds']} s; {validation}; "
        f"{found['diverged']} episodes diverged\nmodel: {found['model']}"
    )
