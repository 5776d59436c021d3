"""Episodes of meta-training: each has a fresh optimizee, drawn from the run's seed and the episode's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._config import MetaTrainConfig
from closedform.meta_training._problem import Problem
from closedform.meta_training._unroll import Carry, begin
from closedform.tasks import Task

SPLIT = "train"
"""Meta-training and its validation see this split alone; ``eval`` is for judging what comes out."""
_TRAINING, _VALIDATION = 0, 1


@dataclass(frozen=True)
class Episode:
    """An episode under way.

    Attributes:
        task: Its task's place in the list of tasks.
        horizon: Steps after which it ends.
        problem: The problem, with its random scaling.
        carry: Where it stands.
    """

    task: int
    horizon: int
    problem: Problem
    carry: Carry

    @property
    def left(self) -> int:
        """Steps left."""
        return self.horizon - self.carry.step

    def at(self, carry: Carry) -> Episode:
        """The same episode at another point."""
        return replace(self, carry=carry)


def training_episode(
    optimizer: LearnedOptimizer, tasks: Sequence[Task], config: MetaTrainConfig, number: int
) -> Episode:
    """The episode of that number: its task, random scaling, starting point and batches."""
    generator = _generator(config.seed, _TRAINING, number)
    index = int(torch.randint(len(tasks), (), generator=generator))
    task, scale = tasks[index], None
    if config.random_scaling:
        exponents = torch.rand(task.size, generator=generator, dtype=torch.float64) * 2 - 1
        scale = (config.random_scaling * exponents).exp().to(task.device, task.dtype)
    problem = Problem(task, SPLIT, scale)
    horizon = config.horizon or task.horizon
    return Episode(index, horizon, problem, begin(optimizer, problem, generator))


def validation_episodes(optimizer: LearnedOptimizer, tasks: Sequence[Task], config: MetaTrainConfig) -> list[Episode]:
    """The fixed episodes of validation: always the same seeds, full horizon, no random scaling."""
    episodes = []
    for index, task in enumerate(tasks):
        for number in range(config.validation_episodes):
            problem = Problem(task, SPLIT)
            carry = begin(optimizer, problem, _generator(config.seed, _VALIDATION, number))
            episodes.append(Episode(index, config.horizon or task.horizon, problem, carry))
    return episodes


def _generator(*entropy: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)
