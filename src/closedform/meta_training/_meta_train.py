"""Meta-train a learned optimizer: the trainer with its files, progress, time limit and resumption.

A run in a folder leaves there ``config.json`` (what it is), ``metrics.jsonl`` (a record a meta-step),
``checkpoint.safetensors`` and at the end ``model.safetensors``, or ``rule.json`` for a symbolic optimizer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from closedform._files import write_json
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, save_learned_optimizer
from closedform.meta_training._checkpoint import describe, restore_checkpoint, write_checkpoint
from closedform.meta_training._config import MetaTrainConfig, MetaTrainResult
from closedform.meta_training._estimator import Estimator
from closedform.meta_training._metrics import MetricsLog
from closedform.meta_training._trainer import Trainer
from closedform.meta_training._truncated_bptt import TruncatedBPTT
from closedform.tasks import Task

MODEL_FILE, RULE_FILE = "model.safetensors", "rule.json"

Progress = Callable[[Mapping[str, Any]], None]
"""Called after every meta-step with its record in ``metrics.jsonl``, and ``seconds``."""


def meta_train(
    optimizer: LearnedOptimizer,
    tasks: Sequence[Task],
    *,
    estimator: Estimator | None = None,
    config: MetaTrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> MetaTrainResult:
    """Meta-train a learned optimizer on tasks, of which it sees the split ``train`` alone.

    Args:
        optimizer: The learned optimizer. Trained in place; ends with the weights that validated best.
        tasks: Tasks, of which each episode draws one.
        estimator: How meta-gradients are estimated; by default ``TruncatedBPTT()``.
        config: All other options; by default ``MetaTrainConfig()``.
        out: Folder for config, metrics, checkpoints and result; None writes nothing. An earlier run there is replaced.
        resume: Go on from the checkpoint in ``out``, if there is one. On the CPU the result is bit for bit that of a
            run that was never stopped.
        progress: Called after every meta-step.

    Raises:
        CheckpointError: the checkpoint is damaged, or of a run with other options.
        DivergenceError: the losses are never finite.
        OutputError: ``out`` cannot be written.
        OptionError: there are no tasks, or nothing to train.
    """
    trainer = Trainer(optimizer, tasks, estimator or TruncatedBPTT(), config or MetaTrainConfig())
    run = _Run(trainer, None if out is None else Path(out), resume)
    try:
        return run.to_the_end(progress)
    finally:
        run.log.close()


class _Run:
    """A trainer with its folder and its clock."""

    def __init__(self, trainer: Trainer, out: Path | None, resume: bool) -> None:
        self.trainer = trainer
        self.out = out
        self.start = time.monotonic()
        length = 0
        if out is not None:
            if resume and self._checkpoint_path.exists():
                seconds, length = restore_checkpoint(self._checkpoint_path, trainer)
                self.start -= seconds
            elif self._checkpoint_path.exists():
                self._checkpoint_path.unlink()
            write_json(out / "config.json", describe(trainer))
        self.log = MetricsLog(None if out is None else out / "metrics.jsonl", length)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def to_the_end(self, progress: Progress | None) -> MetaTrainResult:
        trainer, config = self.trainer, self.trainer.config
        if config.validate_every and not self.log.records:
            self.log.append({"step": 0, "validation": trainer.validate()})
        while trainer.step < config.steps and not self._out_of_time():
            record = trainer.advance()
            if self._validation_is_due():
                record["validation"] = trainer.validate()
            self.log.append(record)
            if trainer.step % config.checkpoint_every == 0:
                self._checkpoint()
            if progress is not None:
                progress({**record, "seconds": self.seconds})
        return self._finish()

    def _finish(self) -> MetaTrainResult:
        """Choose the best weights; after the last checkpoint, so that a longer run resumed from it does not know."""
        self._checkpoint()
        trainer = self.trainer
        if not trainer.config.validate_every:
            trainer.best, trainer.best_step = trainer.weights(), trainer.step
        elif trainer.step and not self._validation_is_due():  # stopped early
            self.log.append({"step": trainer.step, "validation": trainer.validate()})
        trainer.optimizer.load_state_dict(trainer.best)
        if self.out is not None:
            symbolic = isinstance(trainer.optimizer, SymbolicOptimizer)
            save_learned_optimizer(trainer.optimizer, self.out / (RULE_FILE if symbolic else MODEL_FILE))
        return MetaTrainResult(
            optimizer=trainer.optimizer,
            step=trainer.step,
            best_step=trainer.best_step,
            best_validation=trainer.best_validation if math.isfinite(trainer.best_validation) else None,
            diverged=trainer.diverged,
            seconds=self.seconds,
            history=self.log.records,
        )

    def _checkpoint(self) -> None:
        if self.out is not None:
            length = self.log.sync()
            write_checkpoint(self._checkpoint_path, self.trainer, seconds=self.seconds, metrics_bytes=length)

    def _validation_is_due(self) -> bool:
        step, config = self.trainer.step, self.trainer.config
        return config.validate_every > 0 and (step % config.validate_every == 0 or step == config.steps)

    def _out_of_time(self) -> bool:
        limit = self.trainer.config.time_limit
        return limit is not None and self.seconds >= limit

    @property
    def _checkpoint_path(self) -> Path:
        assert self.out is not None
        return self.out / "checkpoint.safetensors"
