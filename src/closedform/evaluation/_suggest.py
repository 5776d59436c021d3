"""Which learning rate to begin with: range tests of an optimizer on a task, over several starts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from closedform._options import check_count, check_seed
from closedform._progress import Progress
from closedform.errors import DivergenceError
from closedform.optim import LearningRateFinder, RangeTest, RuleOptimizer
from closedform.rules import Rule, load_rule
from closedform.tasks import Task
from closedform.tasks import get as get_task

Factory = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
LONGER = 20
"""Times the test's steps that a rule with a schedule is told of: the schedule then stands nearly still."""


def suggest_lr(
    optimizer: Rule | str | Factory,
    task: Task | str,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 150,
    starts: int = 3,
    split: str = "train",
    seed: int = 0,
    progress: Progress | None = None,
) -> RangeTest:
    """Find a learning rate by a range test: the rate rises from step to step, the loss falls, and then grows.

    Args:
        optimizer: A rule or its name, or a function that makes a torch optimizer of a list of parameters.
        task: A task or its name.
        low, high: Rates at the first and the last step.
        steps: Steps of a test.
        starts: Tests from different starting points, whose losses are averaged as far as all of them come.
        split: The task's data to train on.
        seed: Draws starting points and minibatches.
        progress: Called after every start.

    Returns:
        Losses by learning rate, and its ``suggestion``.

    Raises:
        DivergenceError: the loss is of no use even at the lowest rate.
        OptionError, UnknownNameError: an option makes no sense; no such rule or task.
    """
    check_count("starts", starts, 1, 1000)
    check_seed("seed", seed)
    found_task = get_task(task) if isinstance(task, str) else task
    make = _factory(optimizer, steps)
    tests: list[RangeTest] = []
    for start in range(starts):
        tests.append(_once(make, found_task, low, high, steps, split, seed * 1_000_003 + start))
        if progress is not None:
            progress(start + 1, starts, f"lr {tests[-1].suggestion:.3g}")
    count = min(len(test.losses) for test in tests)
    losses = [sum(test.losses[k] for test in tests) / starts for k in range(count)]
    return RangeTest(tests[0].lrs[:count], losses, any(test.diverged for test in tests))


def _factory(optimizer: Rule | str | Factory, steps: int) -> Factory:
    if callable(optimizer) and not isinstance(optimizer, Rule):
        return optimizer
    rule = load_rule(optimizer)
    return lambda parameters: RuleOptimizer(parameters, rule, total_steps=LONGER * steps)


def _once(make: Factory, task: Task, low: float, high: float, steps: int, split: str, seed: int) -> RangeTest:
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: torch.nn.Parameter(value) for name, value in task.init(generator).items()}
    optimizer = make(list(parameters.values()))
    finder = LearningRateFinder(optimizer, low, high, steps)
    going = True
    while going:
        values = {name: value.detach() for name, value in parameters.items()}
        loss, grads = task.loss_and_grad(values, task.batch(split, generator))
        for name, parameter in parameters.items():
            parameter.grad = grads[name]
        optimizer.step()
        going = finder.step(loss)
    try:
        return finder.result()
    except DivergenceError as error:
        raise DivergenceError(f"{task.name}: {error}") from None
