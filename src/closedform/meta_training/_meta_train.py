"""Meta-train a learned optimizer: the trainer with its files, progress, time limit and resumption.

A run in a folder leaves there ``config.json`` (what it is), ``metrics.jsonl`` (a record a meta-step),
``checkpoint.safetensors`` and at the end ``model.safetensors``, or ``rule.json`` for a symbolic optimizer.

Under ``torchrun``, or in a process group of its caller, all ranks call `meta_train` with the same arguments, and share
the work as ``_ranks.py`` says.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from closedform._files import write_json
from closedform._options import with_options
from closedform._progress import OnRecord, Progress, shown
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, save_learned_optimizer
from closedform.meta_training._checkpoint import describe, restore_checkpoint, write_checkpoint
from closedform.meta_training._config import MetaTrainConfig, MetaTrainResult
from closedform.meta_training._episodes import check_starts
from closedform.meta_training._metrics import MetricsLog
from closedform.meta_training._ranks import Ranks
from closedform.meta_training._trainer import Trainer
from closedform.meta_training.estimators import Estimator, TruncatedBPTT
from closedform.tasks import Task, as_tasks
from closedform.tasks.distribution import TaskDistribution

MODEL_FILE, RULE_FILE = "model.safetensors", "rule.json"


def meta_train(
    optimizer: LearnedOptimizer,
    tasks: Task | str | Sequence[Task | str] | TaskDistribution,
    *,
    estimator: Estimator | None = None,
    config: MetaTrainConfig | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    **options: Any,
) -> MetaTrainResult:
    """Meta-train a learned optimizer on tasks, of which it sees the split ``train`` alone.

    Args:
        optimizer: The learned optimizer. Trained in place; ends with the weights that validated best.
        tasks: A task or several, or their names, of which each episode draws one; or a distribution, from which each
            draws a new one.
        estimator: How meta-gradients are estimated; by default ``TruncatedBPTT()``.
        config: All other options; by default ``MetaTrainConfig()``.
        out: Folder for config, metrics, checkpoints and result; None writes nothing. An earlier run there is replaced.
        resume: Go on from the checkpoint in ``out``, if there is one. On the CPU the result is bit for bit that of a
            run that was never stopped.
        progress: Called after every meta-step, on the first rank.
        on_record: Called then with the step's record in ``metrics.jsonl``, and ``seconds``.
        options: Fields of `MetaTrainConfig` by name, in place of ``config``'s.

    Raises:
        CheckpointError: the checkpoint is damaged, or of a run with other options.
        DivergenceError: a task's loss is not finite to begin with, or no loss ever is.
        OutputError: ``out`` cannot be written.
        OptionError: an option makes no sense; see `Trainer`.
    """
    config = with_options(config or MetaTrainConfig(), options, "option of meta_train")
    if not isinstance(optimizer, LearnedOptimizer):
        raise OptionError(
            f"meta_train trains a LearnedOptimizer, not {type(optimizer).__name__}: learned_optimizers.get(name), or "
            "learned_optimizers.from_module(network, features) for a torch module of yours"
        )
    tasks = tasks if isinstance(tasks, TaskDistribution) else as_tasks(tasks)
    device = next((parameter.device for parameter in optimizer.parameters()), torch.device("cpu"))
    ranks = Ranks.join(device)
    trainer = Trainer(optimizer, tasks, estimator or TruncatedBPTT(), config, ranks)
    _note_long_windows(trainer)
    run = _Run(trainer, None if out is None else Path(out), resume)
    try:
        return run.to_the_end(progress, on_record)
    finally:
        run.log.close()


def _note_long_windows(trainer: Trainer) -> None:
    """Say so if windows are cut to the length of whole episodes."""
    unroll, config = trainer.estimator.unroll, trainer.config
    short = [task for task in trainer.tasks if (config.horizon or task.horizon) < unroll]
    if short and trainer.ranks.first:
        horizon = config.horizon or short[0].horizon
        warnings.warn(
            f"unroll {unroll} is longer than the horizon of {short[0].name!r}, {horizon} steps: a window there is a "
            "whole episode",
            stacklevel=3,
        )


class _Run:
    """A trainer with its folder and its clock."""

    def __init__(self, trainer: Trainer, out: Path | None, resume: bool) -> None:
        self.trainer = trainer
        self.folder = out
        self.out = out if trainer.ranks.first else None
        self.start = time.monotonic()
        self.resumed = out is not None and resume and self._checkpoint_path.exists()
        length = 0
        if self.resumed:
            seconds, length = restore_checkpoint(self._checkpoint_path, trainer)
            self.start -= seconds
        if self.out is not None:
            if not self.resumed and self._checkpoint_path.exists():
                self._checkpoint_path.unlink()
            write_json(self.out / "config.json", describe(trainer))
        self.log = MetricsLog(None if self.out is None else self.out / "metrics.jsonl", length)
        self.log.records = trainer.ranks.from_first(self.log.records)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def to_the_end(self, progress: Progress | None, on_record: OnRecord | None) -> MetaTrainResult:
        trainer, config = self.trainer, self.trainer.config
        if not self.resumed:
            check_starts(trainer.tasks, config)
        if config.validate_every and not self.resumed:
            self.log.append({"step": 0, "validation": trainer.validate()})
        while trainer.step < config.steps and not self._out_of_time():
            record = trainer.advance()
            if self._validation_is_due():
                record["validation"] = trainer.validate()
            self.log.append(record)
            if trainer.step % config.checkpoint_every == 0:
                self._checkpoint()
            if on_record is not None and trainer.ranks.first:
                on_record({**record, "seconds": self.seconds})
            if progress is not None and trainer.ranks.first:
                progress(trainer.step, config.steps, f"loss {shown(record.get('validation', record.get('loss')))}")
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
        trainer.ranks.any(False)  # none goes on before the files are there
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
        if self.folder is not None:
            length = self.log.sync()
            write_checkpoint(self._checkpoint_path, self.trainer, seconds=self.seconds, metrics_bytes=length)

    def _validation_is_due(self) -> bool:
        step, config = self.trainer.step, self.trainer.config
        return config.validate_every > 0 and (step % config.validate_every == 0 or step == config.steps)

    def _out_of_time(self) -> bool:
        limit = self.trainer.config.time_limit
        return limit is not None and self.trainer.ranks.any(self.seconds >= limit)

    @property
    def _checkpoint_path(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.safetensors"
