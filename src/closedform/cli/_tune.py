"""``closedform tune``: meta-tune a rule's constants."""

from __future__ import annotations

from typing import Annotated

import typer

from closedform.cli._app import STDOUT, app, show
from closedform.cli._training import Training, training_options
from closedform.meta_training import TUNING, TUNING_UNROLL, TruncatedBPTT, meta_tune
from closedform.rules import load_rule, save_rule


@app.command("tune")
@training_options(TUNING, TruncatedBPTT(TUNING_UNROLL), "runs/tune")
def tune(
    training: Training,
    rule: Annotated[str, typer.Argument(help="A library rule or a rule file.")],
    trainable: Annotated[
        str | None,
        typer.Option(help="Constants to tune, comma-separated, lr among them if wanted; all but floors by default."),
    ] = None,
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
