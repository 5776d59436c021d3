"""The meta-training loop: windows of episodes, one update of the meta-parameters after each.

An episode runs to its horizon in windows; the optimizee and the optimizer's state are carried from one window to the
next, detached. Then, or when something in it is no longer finite, a fresh one takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from closedform.errors import DivergenceError, OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._config import MetaTrainConfig
from closedform.meta_training._episodes import Episode, training_episode, validation_episode, validation_groups
from closedform.meta_training._meta_parameters import count, gradients
from closedform.meta_training._objectives import OBJECTIVES, TINY
from closedform.meta_training._ranks import Ranks
from closedform.meta_training._task_source import task_source
from closedform.meta_training._totals import GradientNorms, Totals, WindowOutcome, add_up
from closedform.meta_training.estimators import Estimator
from closedform.tasks import Task
from closedform.tasks.distribution import TaskDistribution
from closedform.unroll import run

PATIENCE = 50
"""Meta-steps in a row without a finite window after which meta-training gives up."""


class Trainer:
    """Everything that a run of meta-training has and changes; a checkpoint holds it (``_checkpoint.py``).

    Args:
        optimizer: The learned optimizer; trained in place.
        tasks: Tasks, of which each episode draws one; or a distribution, from which each draws a new one.
        estimator: How meta-gradients are estimated.
        config: All other options.
        ranks: The processes that share the work.

    Raises:
        OptionError: there are no tasks, nothing to train, an estimator that cannot work with the optimizer, or slots
            that cannot be split over the ranks.
    """

    def __init__(
        self,
        optimizer: LearnedOptimizer,
        tasks: Sequence[Task] | TaskDistribution,
        estimator: Estimator,
        config: MetaTrainConfig,
        ranks: Ranks | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.source = task_source(tasks, config.validation_tasks, config.seed)
        self.tasks = self.source.fixed
        self.estimator = estimator
        self.config = config
        self.ranks = ranks or Ranks()
        self.parameters = [parameter for parameter in optimizer.parameters() if parameter.requires_grad]
        if not any(parameter.numel() for parameter in self.parameters):
            raise OptionError(f"{optimizer.name!r} has nothing to train: no meta-parameters, or no trainable constants")
        estimator.check(optimizer)
        self.own_slots = self.ranks.share(config.batch, "batch")
        self.norms = GradientNorms(self.source.kinds, config.normalise)
        self.adam = torch.optim.Adam(self.parameters, lr=config.lr, fused=True)
        self.step = 0
        self.diverged = 0
        self.bad_in_a_row = 0
        self.stage = 0
        self.stale = 0
        self.best_step = 0
        self.best_validation = math.inf
        self.best = self.weights()
        self.slots: list[Episode] = []

    def weights(self) -> dict[str, Tensor]:
        """A copy of the meta-parameters."""
        return {key: value.detach().clone() for key, value in self.optimizer.state_dict().items()}

    def advance(self) -> dict[str, Any]:
        """One meta-step.

        Returns:
            Its record for the metrics.

        Raises:
            DivergenceError: nothing finite came of the last ``PATIENCE`` meta-steps.
        """
        if not self.slots:
            self.slots = [self._episode(slot, 1) for slot in self.own_slots]
        windows = [self._window(index) for index in range(len(self.slots))]
        begun = sum(episode.number for episode in self.slots)
        totals = add_up(windows, begun, count(self.optimizer), self.norms, self.ranks)
        norm = self._update(totals)
        self.step += 1
        self.diverged += totals.lost
        self.bad_in_a_row = 0 if totals.windows else self.bad_in_a_row + 1
        if self.bad_in_a_row >= PATIENCE:
            names = ", ".join(dict.fromkeys(task.name for task in self.tasks))
            raise DivergenceError(
                f"meta-training stopped at step {self.step}: no window on {names} was finite in {PATIENCE} steps; "
                "try a smaller lr, or another task"
            )
        return self._record(totals, norm)

    def validate(self) -> float:
        """Run the validation episodes; keep the weights if they are the best so far, else the stage may be over."""
        score = validate(self.optimizer, self.tasks, self.config, self.ranks)
        self.stale += 1
        if score < self.best_validation:
            self.best_validation, self.best_step, self.best = score, self.step, self.weights()
            self.stale = 0
        elif self.stale >= self.config.curriculum_patience and self.stage < len(self.config.curriculum):
            self.stage, self.stale = self.stage + 1, 0
        return score

    def _window(self, index: int) -> WindowOutcome:
        """The next window of one slot, which then moves on."""
        episode = self.slots[index]
        steps = min(self.estimator.unroll, episode.left)
        objective = OBJECTIVES[self.config.objective]
        estimator = self.estimator.at(self.step)
        estimate = estimator.estimate(self.optimizer, episode.problem, episode.carry, steps, objective)
        finite = _all_finite([estimate.value, estimate.losses, estimate.carry.w, *estimate.gradients])
        episode = episode.at(estimate.carry)
        self.slots[index] = episode if finite and episode.left else self._episode(episode.slot, episode.number + 1)
        return WindowOutcome(episode.task, estimate if finite else None)

    def _episode(self, slot: int, number: int) -> Episode:
        episode = training_episode(self.optimizer, self.source, self.config, slot, number, self.stage)
        return episode.at(self.estimator.start(self.optimizer, episode.carry))

    def _update(self, totals: Totals) -> float | None:
        """Move the meta-parameters; returns the norm of the meta-gradient before clipping."""
        if not totals.windows:
            return None
        for parameter, gradient in zip(self.parameters, gradients(self.optimizer, totals.gradient), strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.adam.param_groups[0]["lr"] = self.config.lr_at(self.step)
        self.adam.step()
        self.adam.zero_grad()
        return float(norm)

    def _record(self, totals: Totals, norm: float | None) -> dict[str, Any]:
        meta_loss, loss, inner_step = totals.means
        config = self.config
        horizon = max(config.horizon_at(task.horizon, self.stage) for task in self.tasks)
        return {
            "step": self.step,
            "meta_loss": meta_loss,
            "loss": loss,
            "inner_step": None if inner_step is None else round(inner_step),
            "gradient_norm": norm,
            "lr": config.lr_at(self.step - 1),
            "episodes": totals.episodes,
            "diverged": self.diverged,
            **({"stage": self.stage, "horizon": horizon} if config.curriculum else {}),
        }


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


@torch.no_grad()
def validate(optimizer: LearnedOptimizer, tasks: Sequence[Task], config: MetaTrainConfig, ranks: Ranks) -> float:
    """Run the validation episodes, each on one of the ranks.

    Returns:
        The mean loss of an episode's last tenth; the mean over a task's episodes, since an optimizer that fails now and
        then is a bad one, and the geometric mean over tasks, whose losses differ in scale. Infinite if an episode
        diverged.
    """
    finals = torch.zeros(len(tasks), dtype=torch.float64)
    for index, numbers in validation_groups(tasks, config)[ranks.rank :: ranks.size]:
        episode = validation_episode(optimizer, tasks, config, index, numbers)
        losses, _ = run(optimizer, episode.problem, episode.carry, episode.horizon)
        finals[index] += losses[-max(1, episode.horizon // 10) :].mean(0).sum().cpu()
    return _geometric_mean((ranks.sum(finals) / config.validation_episodes).tolist())


def _geometric_mean(values: Sequence[float]) -> float:
    """Infinite if a value is not finite; values below 0 count as 0."""
    if not all(math.isfinite(value) for value in values):
        return math.inf
    return math.exp(sum(math.log(max(value, 0.0) + TINY) for value in values) / len(values))
