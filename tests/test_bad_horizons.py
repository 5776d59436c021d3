"""Bad input about horizons, matrices and distributions of tasks: one line each, that says what to do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from closedform import RuleOptimizer, TaskDistribution, load_rule, meta_training, tasks
from closedform.errors import ClosedFormError
from closedform.rules import Rule


def optimizer(**options: object) -> RuleOptimizer:
    return RuleOptimizer([torch.nn.Parameter(torch.ones(2))], "cf1", **options)


def diverging() -> None:
    task = tasks.get("quadratic", horizon=4)
    task.loss = lambda params, batch: params["w"].sum() * torch.inf
    meta_training.evolve(load_rule("adam"), [task])


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "progress without total_steps": (optimizer, "reads the horizon .* give total_steps"),
    "T = 0": (lambda: optimizer(total_steps=0), "total_steps must be a whole number of steps, 1 or more, got 0"),
    "T that is no number of steps": (lambda: optimizer(total_steps=10.5), "total_steps must be a whole number"),
    "a matrix operator on a scalar": (
        lambda: Rule.parse("x", "-g*orthogonalise(norm(g))"),
        "orthogonalise needs a value that varies over the parameter tensor",
    ),
    "a matrix operator on the step": (lambda: Rule.parse("x", "-g*row_mean(t)"), "row_mean needs a value that varies"),
    "the horizon in a file of format 1": (
        lambda: Rule.from_json(Rule.parse("x", "-g*progress").to_json().replace("rule/2", "rule/1")),
        '\'closedform.rule/1\' has no "progress"; say "format": "closedform.rule/2"',
    ),
    "an empty distribution": (lambda: TaskDistribution(families=()), "at least one family; leave families out"),
    "a distribution of no data": (lambda: TaskDistribution(families=("vit",), data=()), "add 'digits' to data"),
    "no task drawn": (lambda: TaskDistribution().tasks(0), "count must be a whole number of at least 1, not 0"),
    "evolution on no tasks": (lambda: meta_training.evolve(load_rule("adam"), []), "draw some from a TaskDistribution"),
    "a reference that diverges": (diverging, "'quadratic': the reference.* leave the task out"),
    "a horizon longer than the budget": (
        lambda: TaskDistribution(horizon=(50, 100_000), budget=100.0),
        "a horizon of 100000 steps is beyond the budget of 100 ms.*raise budget",
    ),
    "a horizon that runs backwards": (lambda: replace(TaskDistribution(), horizon=(50, 10)), "in this order"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_one_clear_line(case: str) -> None:
    act, text = CASES[case]
    with pytest.raises(ClosedFormError, match=text) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
