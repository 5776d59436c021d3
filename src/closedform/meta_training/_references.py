"""What a loss is worth, beside that of tuned AdamW with a cosine schedule on the same task.

Losses of different tasks cannot be averaged, and neither can their ratios: a tenth less is nothing on a quadratic and a
feat on a language model. So a final loss l is scored by how far it is from the reference L(T), in units of what twice
the steps bring the reference itself:

    score = log(l / L(T)) / log(L(T/2) / L(T))

0 is as good as the reference, -1 about what the reference gains from twice the steps; 1 about what it has after half
of them. The learning rate is tuned for each task and each of the two horizons apart, all rates side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from closedform._document import Within
from closedform._options import check_count
from closedform.errors import DivergenceError, OptionError
from closedform.learned_optimizers import LearnedOptimizer, State, SymbolicOptimizer, UpdateFunction
from closedform.meta_training._meta_parameters import moved
from closedform.meta_training.estimators import copies
from closedform.rules import load_rule
from closedform.tasks import Task
from closedform.unroll import AnyProblem, Problem, begin, generator_for, unroll

RATES = tuple(float(f"{10 ** (power / 3):.4g}") for power in range(-13, 0))
"""Learning rates that the reference tries: 13, three a decade, 4.6e-5 to 0.46."""
WARMUP = 0.05
"""Share of the reference's steps over which its learning rate rises."""
LEAST_GAIN = 0.03
"""Least unit of a score, log(L(T/2) / L(T)): below it the ratio would be noise."""
LEAST_LOSS = 1e-9
"""Smaller losses, and those below 0 that noisy batches may give, count as this one: what is beyond is rounding."""
FINAL_BATCHES = 4
"""Fresh batches over which a final loss is averaged."""


@dataclass(frozen=True)
class Reference:
    """What the reference reaches on a task.

    Attributes:
        loss: L(T), its final loss after the horizon T, at the best learning rate.
        half: L(T/2), the same after half of the steps, tuned apart.
        lr: The best learning rate at T.
    """

    loss: float
    half: float
    lr: Annotated[float, Within(0, 1e300)]

    def __post_init__(self) -> None:
        if self.half < self.loss:
            raise ValueError(
                f"the loss after half of the steps, {self.half:g}, is below that at the end, {self.loss:g}"
            )

    def score(self, losses: Tensor) -> Tensor:
        """The score of final losses, in the shape of ``losses``; infinite where a loss is not finite."""
        gain = max(math.log(max(self.half, LEAST_LOSS) / max(self.loss, LEAST_LOSS)), LEAST_GAIN)
        ratio = losses.double().clamp(min=LEAST_LOSS) / max(self.loss, LEAST_LOSS)
        return torch.where(torch.isfinite(losses), ratio.log() / gain, math.inf)


def cosine(step: int, total: int) -> float:
    """What the learning rate is multiplied by in step 1 ... ``total``: linear warm-up, then a half cosine to 0."""
    rise = max(1, round(WARMUP * total))
    if step <= rise:
        return step / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, total - rise))) / 2


def final_losses(
    optimizer: LearnedOptimizer, update: UpdateFunction, count: int, task: Task, horizon: int, seed: int
) -> Tensor:
    """Train ``count`` optimizees from one starting point, on the same batches, each with an optimizer of its own.

    Args:
        optimizer: Makes the state at the start.
        update: From ``bind_stacked``, of ``count`` rows.
        count: K, optimizees.
        task: What they are trained on; its split ``train``.
        horizon: T, steps.
        seed: Draws the start and the batches.

    Returns:
        The loss of each at the end, over fresh batches, [K]; NaN where it is not finite.
    """
    problem = Problem(task, "train")
    carry = copies(begin(optimizer, problem, generator_for(seed), horizon), count)
    with torch.no_grad():
        for step in unroll(update, problem, carry, horizon, (count, -1)):
            carry = step.after
            if not bool(torch.isfinite(carry.loss).any()):
                return torch.full((count,), math.nan)
        return _mean_loss(problem, carry.w, generator_for(seed, 1))


def reference(task: Task, horizon: int, seed: int = 0, rates: Sequence[float] = RATES) -> Reference:
    """Measure the reference on a task.

    Args:
        task: The task.
        horizon: T, steps; at least 2.
        seed: Draws starts and batches.
        rates: Learning rates to try.

    Raises:
        OptionError: the horizon is too short, or there are no rates.
        DivergenceError: no learning rate ends with a finite loss.
    """
    check_count("horizon", horizon, 2)
    if not rates:
        raise OptionError("a reference needs at least one learning rate")
    best: list[tuple[float, float]] = []
    for steps in (horizon, horizon // 2):
        losses = _adamw_losses(task, steps, seed, rates).tolist()
        finite = [(loss, lr) for loss, lr in zip(losses, rates, strict=True) if math.isfinite(loss)]
        if not finite:
            raise DivergenceError(
                f"task {task.name!r}: the reference, AdamW with a cosine schedule, diverges in {steps} steps at all "
                f"{len(rates)} learning rates; leave the task out, or give it a tamer start"
            )
        best.append(min(finite))
    return Reference(best[0][0], max(best[0][0], best[1][0]), best[0][1])


def _adamw_losses(task: Task, horizon: int, seed: int, rates: Sequence[float]) -> Tensor:
    rule = load_rule("adam")  # AdamW without decay
    optimizer = SymbolicOptimizer(rule, ["lr"])
    offsets = torch.tensor([[math.log(lr / rule.lr)] for lr in rates], dtype=torch.float64)
    bound = optimizer.bind_stacked(moved(optimizer, offsets))
    taken = 0

    def scheduled(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        nonlocal taken
        taken += 1
        update, state = bound(g, w, state)
        return update * cosine(taken, horizon), state

    return final_losses(optimizer, scheduled, len(rates), task, horizon, seed)


def _mean_loss(problem: AnyProblem, w: Tensor, generator: torch.Generator) -> Tensor:
    losses = [problem.loss_and_grad(w, generator)[0] for _ in range(FINAL_BATCHES)]
    mean = torch.stack(losses).mean(0)
    return torch.where(torch.isfinite(mean), mean, math.nan)
