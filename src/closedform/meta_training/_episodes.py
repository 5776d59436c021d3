"""Episodes of meta-training: each has fresh optimizees, drawn from the run's seed and the episode's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from closedform.errors import DivergenceError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._config import MetaTrainConfig
from closedform.meta_training._task_source import TaskSource
from closedform.tasks import Task
from closedform.unroll import AnyProblem, Carry, Problem, ProblemBatch, begin, generator_for

SPLIT = "train"
"""Meta-training and its validation see this split alone; ``eval`` is for judging what comes out."""
_TRAINING, _VALIDATION = 0, 1


@dataclass(frozen=True)
class Episode:
    """An episode under way.

    Attributes:
        task: Its task's kind (see ``_task_source.py``).
        horizon: Steps after which it ends.
        problem: The problem, with its random scaling.
        carry: Where it stands.
        slot: The slot that runs it.
        number: Which of the slot's episodes it is: 1, 2, ...
        seed: What the task was drawn from.
    """

    task: int
    horizon: int
    problem: AnyProblem
    carry: Carry
    slot: int = 0
    number: int = 1
    seed: int = 0

    @property
    def left(self) -> int:
        """Steps left."""
        return self.horizon - self.carry.step

    def at(self, carry: Carry) -> Episode:
        """The same episode at another point."""
        return replace(self, carry=carry)


def training_episode(
    optimizer: LearnedOptimizer, source: TaskSource, config: MetaTrainConfig, slot: int, number: int, stage: int = 0
) -> Episode:
    """The slot's episode of that number: its task, random scaling, starting points and batches.

    Its length depends on the stage of the curriculum. All slots begin together; so that they do not stay in step, the
    first episode of all but slot 0 ends at random; to the optimizer it is one of full length all the same.
    """
    generators = [generator_for(config.seed, _TRAINING, slot, number, row) for row in range(config.side_by_side)]
    choice = source.draw(generators[0])
    task = choice.task
    total = horizon = config.horizon_at(task.horizon, stage)
    if slot and number == 1:
        horizon = int(torch.randint(1, horizon + 1, (), generator=generators[0]))
    scale = _random_scale(task, config.random_scaling, generators) if config.random_scaling else None
    problem = make_problem(task, len(generators), scale)
    carry = begin(optimizer, problem, together(generators), total)
    return Episode(choice.kind, horizon, problem, carry, slot, number, choice.seed)


def check_starts(tasks: Sequence[Task], config: MetaTrainConfig) -> None:
    """Raise DivergenceError if a task's loss or gradient is not finite before any step was taken."""
    for task in tasks:
        problem, generator = Problem(task, SPLIT), generator_for(config.seed, _VALIDATION, 0)
        loss, gradient = problem.loss_and_grad(problem.start(generator), generator)
        if not (loss.isfinite().all() and gradient.isfinite().all()):
            raise DivergenceError(
                f"task {task.name!r}: before any step its loss is {float(loss):g}, or its gradient not finite; "
                "check its data and its init"
            )


def validation_groups(tasks: Sequence[Task], config: MetaTrainConfig) -> list[tuple[int, range]]:
    """The episodes of validation: a task's place, and the numbers of those of its episodes that run side by side."""
    count, width = config.validation_episodes, config.side_by_side
    groups = [range(first, min(first + width, count)) for first in range(0, count, width)]
    return [(index, group) for index in range(len(tasks)) for group in groups]


def validation_episode(
    optimizer: LearnedOptimizer, tasks: Sequence[Task], config: MetaTrainConfig, index: int, numbers: Sequence[int]
) -> Episode:
    """Episodes of validation side by side: always the same seeds, full horizon, no random scaling."""
    generators = [generator_for(config.seed, _VALIDATION, number) for number in numbers]
    problem, horizon = make_problem(tasks[index], len(generators), None), config.horizon or tasks[index].horizon
    return Episode(index, horizon, problem, begin(optimizer, problem, together(generators), horizon))


def make_problem(task: Task, count: int, scale: Tensor | None) -> AnyProblem:
    """``count`` optimizees of a task; one alone has no axis for it."""
    return Problem(task, SPLIT, scale) if count == 1 else ProblemBatch(task, SPLIT, scale)


def together(generators: Sequence[torch.Generator]) -> torch.Generator | tuple[torch.Generator, ...]:
    """What ``make_problem``'s problem of so many optimizees draws with."""
    return generators[0] if len(generators) == 1 else tuple(generators)


def _random_scale(task: Task, width: float, generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.rand(task.size, generator=generator, dtype=torch.float64) * 2 - 1 for generator in generators]
    exponents = draws[0] if len(draws) == 1 else torch.stack(draws)
    return (width * exponents).exp().to(task.device, task.dtype)
