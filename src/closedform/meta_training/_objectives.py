"""Meta-losses: one number from the losses of a window, to be minimised by meta-training.

A window of K steps has the losses l_1 .. l_K, each taken after an update, on a fresh batch; l_0 is the loss at the
episode's start. Of several optimizees side by side every l_s is a row, and each has a meta-loss of its own.
``OBJECTIVES`` is the table of all members; a new one is a function and a line there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Objective: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(losses [K, ...], l_0 [...]) -> the meta-loss [...]; differentiable in the losses."""

TINY = 1e-12
"""Added to losses under a logarithm."""


def mean(losses: Tensor, initial: Tensor) -> Tensor:
    """The mean loss (Andrychowicz et al. 2016, equation 3, with equal weights)."""
    return losses.mean(0)


def relative(losses: Tensor, initial: Tensor) -> Tensor:
    """The mean loss over the loss at the episode's start: tasks of different scale count alike."""
    return losses.mean(0) / (initial.abs() + TINY)


def log(losses: Tensor, initial: Tensor) -> Tensor:
    """The mean logarithm of the loss: a factor gained counts alike wherever in the episode it is gained."""
    return (losses + TINY).log().mean(0)


def late(losses: Tensor, initial: Tensor) -> Tensor:
    """The mean logarithm of the loss over the last quarter of the window: where it ends, not how it got there."""
    return (losses[-max(1, len(losses) // 4) :] + TINY).log().mean(0)


def clipped(losses: Tensor, initial: Tensor) -> Tensor:
    """The mean logarithm of the loss over that at the episode's start, cut off where it has risen twofold.

    However far an episode explodes, it counts as that, and so do losses that are not finite.
    """
    ratio = (losses.abs() + TINY).log() - (initial.abs() + TINY).log()
    return ratio.nan_to_num(nan=CLIP, posinf=CLIP).clamp(max=CLIP).mean(0)


def clipped_late(losses: Tensor, initial: Tensor) -> Tensor:
    """As ``clipped``, over the last tenth of the window: for windows of whole episodes."""
    return clipped(losses[-max(1, len(losses) // 10) :], initial)


CLIP = math.log(2)
"""Where ``clipped`` cuts a rise of the loss off."""

OBJECTIVES: dict[str, Objective] = {
    "mean": mean,
    "relative": relative,
    "log": log,
    "late": late,
    "clipped": clipped,
    "clipped-late": clipped_late,
}
