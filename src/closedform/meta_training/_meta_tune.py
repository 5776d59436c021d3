"""Meta-tune a rule: meta-training of its constants, by the same trainer. A rule goes in, a rule comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from closedform._options import with_options
from closedform._progress import OnRecord, Progress
from closedform.learned_optimizers import SymbolicOptimizer, lift_literals
from closedform.meta_training._config import MetaTrainConfig, MetaTrainResult
from closedform.meta_training._meta_train import RULE_FILE, meta_train
from closedform.meta_training._ranks import Ranks
from closedform.meta_training.estimators import Estimator, TruncatedBPTT
from closedform.rules import Rule, save_rule
from closedform.tasks import Task

TUNING = MetaTrainConfig(steps=300, lr=0.03, warmup=0, validate_every=25, validation_episodes=8, checkpoint_every=25)
"""Default options of meta-tuning. A rule has few constants, in coordinates of like scale: steps are few and large."""
TUNING_UNROLL = 50
"""Default window of meta-tuning: a rule's graph is light, so it can be long."""


def meta_tune(
    rule: Rule,
    tasks: Sequence[Task],
    *,
    trainable: Sequence[str] | None = None,
    estimator: Estimator | None = None,
    config: MetaTrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    **options: Any,
) -> Rule:
    """Tune a rule's constants, and its ``lr``, on tasks, of which it sees the split ``train`` alone.

    Numbers written in the rule's update become constants first (``lift_literals``). The rule given is the first
    candidate, so that in validation the result is never worse.

    Args:
        rule: The rule.
        tasks: Tasks, of which each episode draws one.
        trainable: Names of the constants to tune, ``"lr"`` among them if wanted; None: all but floors such as eps.
        estimator: How meta-gradients are estimated; by default ``TruncatedBPTT``, ``TUNING_UNROLL`` steps at
            a time or whole episodes if they are shorter.
        config: All other options; by default ``TUNING``.
        out: As for ``meta_train``; the result is ``rule.json`` there.
        resume: As for ``meta_train``.
        progress, on_record: As for ``meta_train``.
        options: Fields of `MetaTrainConfig` by name, in place of ``config``'s.

    Returns:
        The tuned rule. Its provenance says, under ``meta_tuning``, on what, how, and from which constants.

    Raises:
        CheckpointError, DivergenceError, OutputError, OptionError: as for ``meta_train``.
        UnknownNameError: ``trainable`` names what is no constant of the rule.
    """
    config = with_options(config or TUNING, options, "option of meta_tune")
    optimizer = SymbolicOptimizer(lift_literals(rule), trainable)
    estimator = estimator or TruncatedBPTT(min([TUNING_UNROLL, *(config.horizon or task.horizon for task in tasks)]))
    result = meta_train(
        optimizer,
        tasks,
        estimator=estimator,
        config=config,
        out=out,
        resume=resume,
        progress=progress,
        on_record=on_record,
    )
    entry = {
        "tasks": [task.name for task in tasks],
        "estimator": estimator.describe(),
        "config": config.describe(),
        **_outcome(optimizer, result),
    }
    tuned = optimizer.rule()
    before = tuned.provenance.get("meta_tuning", [])
    tuned = replace(tuned, provenance={**tuned.provenance, "meta_tuning": [*before, entry]}, results={})
    if out is not None and Ranks.join(optimizer.coordinates.device).first:
        save_rule(tuned, Path(out) / RULE_FILE)
    return tuned


def _outcome(optimizer: SymbolicOptimizer, result: MetaTrainResult) -> dict[str, Any]:
    initial = {"lr": optimizer.initial_rule.lr, **optimizer.initial_rule.constants}
    return {
        "from": {name: initial[name] for name in optimizer.trainable},
        "best_step": result.best_step,
        "validation": {"before": result.first_validation, "after": result.best_validation},
    }
