"""``closedform train`` and ``closedform tune``: meta-train a learned optimizer, or a rule's constants."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import typer

from closedform import learned_optimizers
from closedform.cli._app import STDOUT, Trainable, app, show
from closedform.cli._training import Training, training_options
from closedform.errors import CheckpointError
from closedform.learned_optimizers import LEARNED_OPTIMIZERS, PRETRAINED, LearnedOptimizer, load_learned_optimizer
from closedform.meta_training import (
    TUNING,
    TUNING_UNROLL,
    MetaTrainConfig,
    MetaTrainResult,
    TruncatedBPTT,
    meta_train,
    meta_tune,
)
from closedform.rules import load_rule, save_rule

DEFAULT = "rp-si"


@app.command("train")
@training_options(MetaTrainConfig(), TruncatedBPTT(), "runs/train")
def train(
    training: Training,
    optimizer: Annotated[
        str | None, typer.Argument(help=f"One of: {', '.join(LEARNED_OPTIMIZERS)}; {DEFAULT} by default.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from a trained model's weights: a file.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help=f"Start from weights that ship for: {', '.join(PRETRAINED) or 'none'}.")
    ] = False,
) -> None:
    """Meta-train a learned optimizer on tasks.

    Several processes: torchrun --nproc-per-node N -m closedform train ...
    """
    model = _model(optimizer, (optimizer or DEFAULT) if pretrained else init, training.config.seed)
    with training.followed("meta-training") as told:
        result = meta_train(
            model.to(training.device),
            training.tasks,
            estimator=training.estimator,
            config=training.config,
            out=training.out,
            resume=training.resume,
            **told,
        )
    found = {**_summary(result), "model": str(training.out / "model.safetensors")}
    show(found, training.json, lambda: _print(found))


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


@app.command("tune")
@training_options(TUNING, TruncatedBPTT(TUNING_UNROLL), "runs/tune")
def tune(
    training: Training,
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file.")],
    trainable: Trainable = None,
) -> None:
    """Meta-tune a rule's constants on tasks."""
    with training.followed("meta-tuning") as told:
        tuned = meta_tune(
            load_rule(rule),
            training.tasks,
            trainable=trainable.split(",") if trainable else None,
            estimator=training.estimator,
            config=training.config,
            out=training.out,
            resume=training.resume,
            **told,
        )
    path = save_rule(tuned, training.out / "rule.json")
    found = {"rule": str(path), "constants": tuned.constants, "lr": tuned.lr}
    show(found, training.json, lambda: STDOUT.print_json(data=found))
