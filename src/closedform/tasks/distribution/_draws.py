"""Random choices that remember themselves, by name: what a drawn task is described by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Draws:
    """Choices drawn with one generator.

    Attributes:
        chosen: What was drawn so far, by name; JSON values.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.chosen: dict[str, Any] = {}

    def one_of(self, name: str, values: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of several values, all alike or with these weights."""
        chances = torch.ones(len(values)) if weights is None else torch.tensor(list(weights))
        place = int(torch.multinomial(chances.double(), 1, generator=self.generator))
        self.chosen[name] = values[place]
        return values[place]

    def number(self, name: str, low: float, high: float) -> float:
        """A log-uniform number from ``low`` to ``high``, rounded to four digits."""
        value = float(f"{low * (high / low) ** self._uniform():.4g}")
        self.chosen[name] = value
        return value

    def count(self, name: str, low: int, high: int) -> int:
        """A log-uniform whole number from ``low`` to ``high``, both included."""
        value = min(high, max(low, math.floor(low * ((high + 1) / low) ** self._uniform())))
        self.chosen[name] = value
        return value

    def chance(self, share: float) -> bool:
        """Yes with this probability; not noted."""
        return self._uniform() < share

    def seed(self, name: str) -> int:
        """A seed below 2^31."""
        value = int(torch.randint(2**31, (), generator=self.generator))
        self.chosen[name] = value
        return value

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))
