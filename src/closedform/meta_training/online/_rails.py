"""Guard rails of the online tuner: how far, and how fast, a constant may go by the role that it plays in its rule.

A coordinate x is a logarithm where it matters (`closedform.learned_optimizers.Role`): of a rate or a divisor, of 1 - c
for a decay c near 1. So a limit on x is a factor on what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from closedform.learned_optimizers import Role
from closedform.meta_training.online._config import TunerConfig

FURTHEST: dict[Role, tuple[float, float]] = {
    Role.POSITIVE: (-math.log(1000), math.log(1000)),
    Role.DECAY: (-math.log(10), math.log(10)),
    Role.FLOOR: (-math.log(1000), math.log(1000)),
    Role.WEIGHT: (-0.7, 1.0),
}
"""The least and the largest coordinate. Rates and floors: a thousandth to a thousand times where they began; 1 - decay,
and decay beside it, about a tenth to ten times (so that 0.9 stays within 0.47 and 0.99, and 0.999 within 0.99 and
0.9999); weights 0.2 to 2.9 times, and never another sign."""

JUMP, USUAL, PAUSE, BRAKE = 8.0, 10.0, 5, 2.0
"""Of the brake: how much longer than usual a gradient must be, over how many steps that is, steps between two, and by
what the learning rate is divided."""
SLOWER = 0.02
"""How fast constants other than the learning rate move, beside it."""


class Rails:
    """Limits on the coordinates of one rule's constants.

    Args:
        roles: Of the constants, in order.
        limit: The largest factor by which a rate, or 1 - decay, may change within 100 steps.
    """

    def __init__(self, roles: Sequence[Role], limit: float) -> None:
        self.low = torch.tensor([FURTHEST[role][0] for role in roles], dtype=torch.float64)
        self.high = torch.tensor([FURTHEST[role][1] for role in roles], dtype=torch.float64)
        self.pace = math.log(limit) / 100

    def moved(self, x: Tensor, by: Tensor, steps: int) -> Tensor:
        """The coordinates after a move over so many steps, [K]."""
        most = self.pace * steps
        return self.inside(x + by.clamp(-most, most))

    def inside(self, x: Tensor) -> Tensor:
        """The nearest coordinates within bounds."""
        return torch.minimum(torch.maximum(x, self.low), self.high)


class Brake:
    """Says when to halve the learning rate at once, because gradients jump: no hypergradient is quick enough then.

    A jump is a gradient ``JUMP`` times as long as the running geometric mean of their lengths, and uphill along the
    last step: gradients grow where training gets going, too, but then the last step went downhill. After a brake the
    next ``PAUSE`` steps cannot brake again.
    """

    def __init__(self) -> None:
        self.mean, self.weight, self.since = 0.0, 0.0, 0

    def hit(self, length: float, uphill: bool) -> bool:
        """Whether to brake, after a gradient of this length that points uphill along the last step, or not."""
        self.since += 1
        if not length:
            return False
        size = math.log(length)
        jumps = self.weight > 0 and size > self.mean / self.weight + math.log(JUMP)
        keep = 1 - 1 / USUAL
        self.mean, self.weight = keep * self.mean + size, keep * self.weight + 1
        if not (jumps and uphill) or self.since <= PAUSE:
            return False
        self.since = 0
        return True


class Pace:
    """How far the coordinates want to go: the meta-optimizer.

    What counts is how sure a direction is: each constant's cosines are divided by their own root mean square, running
    over ``spread`` steps. In large networks all cosines are small, and the sign of most of them may still be the same.

    Args:
        is_rate: Of each constant whether it is the learning rate; others move ``SLOWER``.
        config: The tuner's options.
    """

    def __init__(self, is_rate: Sequence[bool], config: TunerConfig) -> None:
        self.keep = 1 - 1 / config.spread
        self.rates = config.rate * torch.tensor([1.0 if rate else SLOWER for rate in is_rate], dtype=torch.float64)
        self.square = torch.zeros_like(self.rates)
        self.weight = 0.0

    def of(self, cosines: Tensor) -> Tensor:
        """The move that the cosines of gradient and sensitivity at some steps, [K, steps], ask for, [K]."""
        kept = self.keep ** cosines.shape[1]
        self.square = kept * self.square + (1 - kept) * cosines.square().mean(1)
        self.weight = kept * self.weight + (1 - kept)
        size = (self.square / self.weight).sqrt()
        return -self.rates * torch.where(size > 0, cosines.sum(1) / size, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        return {"square": self.square.clone(), "weight": self.weight}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume."""
        self.square, self.weight = saved["square"].clone(), float(saved["weight"])
