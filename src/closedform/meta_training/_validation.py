"""Validation: how good a learned optimizer is on fixed episodes of full length, as one number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._config import MetaTrainConfig
from closedform.meta_training._episodes import validation_episode, validation_groups
from closedform.meta_training._objectives import TINY
from closedform.meta_training._ranks import Ranks
from closedform.tasks import Task
from closedform.unroll import run


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
