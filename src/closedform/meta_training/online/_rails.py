"""Guard rails of the online tuner: how far, and how fast, a constant may go by the role that it plays in its rule.

A coordinate x is a logarithm where it matters (`closedform.learned_optimizers.Role`): of a rate or a divisor, of 1 - c
for a decay c near 1. So a limit on x is a factor on what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from closedform.learned_optimizers import Role

FURTHEST: dict[Role, tuple[float, float]] = {
    Role.POSITIVE: (-math.log(1000), math.log(1000)),
    Role.DECAY: (-math.log(10), math.log(10)),
    Role.FLOOR: (-math.log(1000), math.log(1000)),
    Role.WEIGHT: (-0.7, 1.0),
}
"""The least and the largest coordinate. Rates and floors: a thousandth to a thousand times where they began; 1 - decay,
and decay beside it, about a tenth to ten times (so that 0.9 stays within 0.47 and 0.99, and 0.999 within 0.99 and
0.9999); weights 0.2 to 2.9 times, and never another sign."""


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
        return torch.minimum(torch.maximum(x + by.clamp(-most, most), self.low), self.high)
