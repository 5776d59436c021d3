"""What the windows of one meta-step gave, over all slots and ranks: the mean meta-gradient, and what to report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.meta_training._objectives import TINY
from closedform.meta_training._ranks import Ranks
from closedform.meta_training.estimators import Estimate

DECAY = 0.95
"""How much of a task's earlier gradient norms is left in their running mean a meta-step later."""


def unchanged(norms: Tensor) -> Tensor:
    """Tasks count as their meta-losses have it."""
    return torch.ones_like(norms)


def unit_norm(norms: Tensor) -> Tensor:
    """Meta-gradients are divided by the running mean of their norms on the same task: no task drowns the others."""
    return 1 / (norms + TINY)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": unchanged, "gradient-norm": unit_norm}
"""Name -> function from the tasks' running means of gradient norms, [tasks], to what to multiply gradients by."""


class GradientNorms:
    """Running means of the norms of each task's meta-gradients, and what they are for.

    Args:
        tasks: How many tasks there are.
        normalise: A name in ``NORMALISATIONS``.

    Attributes:
        sums: Norms and how many they were, both fading with ``DECAY`` a meta-step, [tasks, 2].
    """

    def __init__(self, tasks: int, normalise: str) -> None:
        self.sums = torch.zeros(tasks, 2, dtype=torch.float64)
        self._normalise = NORMALISATIONS[normalise]

    def weights(self, seen: Tensor) -> Tensor:
        """Take in a meta-step's sums of norms and their numbers, [tasks, 2]; returns the tasks' weights, [tasks]."""
        self.sums = torch.where(seen[:, 1:] > 0, DECAY * self.sums + seen, self.sums)
        return self._normalise(self.sums[:, 0] / self.sums[:, 1].clamp(min=TINY))


@dataclass(frozen=True)
class WindowOutcome:
    """A window that one slot ran.

    Attributes:
        task: Its task's place in the list of tasks.
        estimate: What came of it; None if something in it was not finite.
    """

    task: int
    estimate: Estimate | None


@dataclass(frozen=True)
class Totals:
    """What the windows of a meta-step gave on all ranks; means are over those that were finite.

    Attributes:
        gradient: The mean meta-gradient, [D] float64.
        windows: How many windows were finite.
        lost: How many were not.
        episodes: Episodes begun by now.
        means: Of the meta-loss, of the last step's loss, and of the steps that episodes are in; None without windows.
    """

    gradient: Tensor
    windows: int
    lost: int
    episodes: int
    means: tuple[float | None, ...]


def add_up(windows: Sequence[WindowOutcome], episodes: int, size: int, norms: GradientNorms, ranks: Ranks) -> Totals:
    """Add up the windows of a meta-step over slots and ranks.

    Args:
        windows: This rank's.
        episodes: Episodes that its slots have begun.
        size: D.
        norms: Norms of gradients so far; this meta-step's are taken in.
        ranks: All ranks.
    """
    finite = [(window.task, window.estimate) for window in windows if window.estimate is not None]
    gradients = [_flat(estimate) for _, estimate in finite]
    seen = torch.zeros_like(norms.sums)
    for (task, _), gradient in zip(finite, gradients, strict=True):
        seen[task] += torch.tensor([float(gradient.norm()), 1.0], dtype=torch.float64)
    weights = norms.weights(ranks.sum(seen)).tolist()
    total = torch.zeros(6 + size, dtype=torch.float64)
    for (task, estimate), gradient in zip(finite, gradients, strict=True):
        total[6:] += weights[task] * gradient
        numbers = (1, estimate.value, estimate.losses[-1].mean(), estimate.carry.step)
        total[:4] += torch.tensor([float(number) for number in numbers], dtype=torch.float64)
    total[4], total[5] = len(windows) - len(finite), episodes
    total = ranks.sum(total)
    count, *sums, lost, begun = total[:6].tolist()
    means = tuple(number / count if count else None for number in sums)
    return Totals(total[6:] / max(count, 1), int(count), int(lost), int(begun), means)


def _flat(estimate: Estimate) -> Tensor:
    return torch.cat([gradient.reshape(-1).double().cpu() for gradient in estimate.gradients])
