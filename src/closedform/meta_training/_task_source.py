"""Where episodes take their tasks from: a list of tasks, or a distribution that draws a new one each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from closedform.errors import OptionError
from closedform.tasks import Task
from closedform.tasks.distribution import TaskDistribution
from closedform.unroll import generator_for

_VALIDATION_TASKS = 0xCE10
"""Sets the seeds of validation's draws apart from those of episodes."""


@dataclass(frozen=True)
class Choice:
    """A task that an episode runs on.

    Attributes:
        task: The task.
        kind: Its kind, 0, 1, ...: its place in the list, or its family's in the distribution.
        seed: What it was drawn from; 0 of a list.
    """

    task: Task
    kind: int
    seed: int = 0


class TaskSource(ABC):
    """What a trainer takes tasks from.

    Attributes:
        fixed: Tasks that validation runs on, always the same; of a list all of them.
        kinds: How many kinds of tasks there are.
    """

    fixed: list[Task]
    kinds: int

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Choice:
        """Draw a task."""

    @abstractmethod
    def again(self, kind: int, seed: int) -> Task:
        """The task that was drawn once."""

    @abstractmethod
    def describe(self) -> Any:
        """What it is; JSON."""


class TaskList(TaskSource):
    """Some tasks, all alike likely."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.fixed = list(tasks)
        self.kinds = len(self.fixed)
        if not self.fixed:
            raise OptionError("meta-training needs at least one task")

    def draw(self, generator: torch.Generator) -> Choice:
        place = int(torch.randint(self.kinds, (), generator=generator))
        return Choice(self.fixed[place], place)

    def again(self, kind: int, seed: int) -> Task:
        return self.fixed[kind]

    def describe(self) -> Any:
        return [
            {
                "name": task.name,
                "horizon": task.horizon,
                "shapes": {key: list(shape) for key, shape in task.shapes.items()},
            }
            for task in self.fixed
        ]


class DrawnTasks(TaskSource):
    """Tasks from a distribution.

    Args:
        distribution: The distribution.
        count: How many tasks validation has.
        seed: Draws them.
    """

    def __init__(self, distribution: TaskDistribution, count: int, seed: int) -> None:
        self.distribution = distribution
        self.families = tuple(dict.fromkeys(distribution.families or ()))
        self.kinds = len(self.families)
        generator = generator_for(seed, _VALIDATION_TASKS)
        self.fixed = [distribution.draw(generator).task for _ in range(count)]

    def draw(self, generator: torch.Generator) -> Choice:
        drawn = self.distribution.draw(generator)
        return Choice(drawn.task, self.families.index(drawn.family), drawn.seed)

    def again(self, kind: int, seed: int) -> Task:
        return self.distribution.repeat(seed).task

    def describe(self) -> Any:
        return {"distribution": self.distribution.describe(), "validation": len(self.fixed)}


def task_source(tasks: Sequence[Task] | TaskDistribution, count: int, seed: int) -> TaskSource:
    """The source of tasks that were given as a list or as a distribution.

    Raises:
        OptionError: the list is empty, or nothing can be drawn.
    """
    return DrawnTasks(tasks, count, seed) if isinstance(tasks, TaskDistribution) else TaskList(tasks)
