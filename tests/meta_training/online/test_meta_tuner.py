"""The online tuner against finite differences of whole runs, closed forms, and runs that were interrupted."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import closedform as cf
from closedform.errors import CheckpointError, OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule, library_names, load_rule

STEPS = 12
ELEMENTWISE = [name for name in library_names() if SymbolicOptimizer(load_rule(name)).coordinatewise]


def slopes() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))] for _ in range(STEPS)
    ]


def linear_run(rule: Rule, after: Callable[[cf.RuleOptimizer], Any] = lambda optimizer: optimizer) -> tuple[float, Any]:
    """Minimise <g_t, w> with other g_t at every step, a schedule and weight decay; the sum of the losses."""
    generator = torch.Generator().manual_seed(4)
    params = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))]
    leaves = [nn.Parameter(param) for param in params]
    optimizer = cf.RuleOptimizer(leaves, rule, lr=0.1, weight_decay=0.2, total_steps=STEPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * STEPS)
    stepper, total = after(optimizer), 0.0
    for row in slopes():
        for leaf, slope in zip(leaves, row, strict=True):
            leaf.grad = slope.clone()
            total += float((leaf.detach() * slope).sum())
        stepper.step()
        schedule.step()
    return total, stepper


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_hypergradients_are_finite_differences_of_the_whole_run(name: str) -> None:
    rule = load_rule(name)
    _, tuner = linear_run(rule, lambda optimizer: cf.MetaTuner(optimizer, rate=0.0, memory=None, every=STEPS))
    part, found = tuner._parts[0], []
    for place in range(len(part.names)):
        losses = []
        for sign in (1, -1):
            part.symbolic.coordinates.data.zero_()[place] = sign * 1e-5
            moved = part.symbolic.rule()
            scaled = lambda optimizer, factor=moved.lr: Scaled(optimizer, factor)  # noqa: E731
            losses.append(linear_run(moved, scaled)[0])
        found.append((losses[0] - losses[1]) / 2e-5)
    expected = torch.tensor(found, dtype=torch.float64)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(part.hypergradient, expected, rtol=1e-5, atol=1e-6)


class Scaled:
    """An optimizer whose scheduled learning rate is multiplied by a factor."""

    def __init__(self, optimizer: cf.RuleOptimizer, factor: float) -> None:
        self.optimizer, self.factor = optimizer, factor

    def step(self) -> None:
        [group] = self.optimizer.param_groups
        group["lr"] *= self.factor
        self.optimizer.step()
        group["lr"] /= self.factor
