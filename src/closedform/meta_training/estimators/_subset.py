"""A random subset of an optimizee's coordinates, through which a meta-gradient is taken.

With detached inputs a meta-gradient is a sum over coordinates (see ``_truncated_bptt.py``); so a random subset, scaled
up, estimates it without bias, and a coordinatewise optimizer can be differentiated on the subset alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.unroll import Carry


@dataclass(frozen=True)
class Subset:
    """The same number n of coordinates of each of K optimizees.

    Attributes:
        places: Where they lie among all coordinates end to end, [n] or [K, n].
        factor: N/n: what a sum over them is multiplied by.
    """

    places: Tensor
    factor: float

    def of(self, value: Tensor) -> Tensor:
        """Their part of a value in the shape of w: [n] or [K, n]."""
        return value.reshape(-1)[self.places]

    def of_state(self, state: State) -> State:
        """Their part of an optimizer's state, which is that of one vector of K n parameters."""
        flat = self.places.reshape(-1)
        return {key: value[..., flat] if value.dim() else value for key, value in state.items()}


def draw_subset(carry: Carry, count: int, generator: torch.Generator) -> Subset:
    """Draw ``count`` different coordinates of each optimizee, all equally likely."""
    *rows, size = carry.w.shape
    chosen = [torch.randperm(size, generator=generator)[:count] + row * size for row in range(rows[0] if rows else 1)]
    places = torch.stack(chosen) if rows else chosen[0]
    return Subset(places.to(carry.w.device), size / places.shape[-1])


def check_coordinatewise(optimizer: LearnedOptimizer, option: str) -> None:
    """Raise OptionError if what the optimizer does to a coordinate depends on others."""
    if not optimizer.coordinatewise:
        raise OptionError(
            f"{option} needs an optimizer that sees each coordinate alone, but {optimizer.name!r} looks at whole "
            f"parameter tensors: leave {option} out"
        )
