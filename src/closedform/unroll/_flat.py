"""An optimizee's parameters as one flat vector, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlatParams:
    """How named parameter tensors lie end to end in one vector.

    Attributes:
        shapes: Name -> shape, in order.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of elements of each tensor, in order."""
        return tuple(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """One vector, [N], of the tensors in order; a copy."""
        return torch.cat([params[name].reshape(-1) for name in self.shapes])

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """The tensors in order, as views of ``w``, [N]."""
        parts = w.split(list(self.sizes))
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
