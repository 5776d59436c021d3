"""A range test of the learning rate: it rises step by step while the loss is watched.

    for inputs, targets in loader:
        ...                                    # loss, backward, optimizer.step()
        if not finder.step(loss):
            break

Source: Smith 2017, Cyclical learning rates for training neural networks, section 3.3, with exponential rise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_positive
from closedform.errors import DivergenceError, OptionError

SMOOTHING = 0.05
"""Of the steps: over how many the loss is averaged."""
DIVERGED = 4.0
"""Times the range of losses so far, above the least, at which a test ends."""
FEWEST = 8
"""Steps that a suggestion needs."""
SHARE = 1 / 3
"""Of the rate of the least loss, what is suggested. Measured on tasks on digits beside a grid, for five rules: a tenth,
and the rate of the steepest fall, which are usual, are too small."""


@dataclass(frozen=True)
class RangeTest:
    """Losses by learning rate.

    Attributes:
        lrs: Learning rates, rising, [N].
        losses: The loss at each, as it was, [N].
        diverged: Whether the test ended because the loss grew.
    """

    lrs: Sequence[float]
    losses: Sequence[float]
    diverged: bool

    @property
    def smooth(self) -> list[float]:
        """The loss, averaged over neighbours on both sides, [N]."""
        width = max(round(SMOOTHING * len(self.losses)), 1)
        padded = [self.losses[max(k - width, 0) : k + width + 1] for k in range(len(self.losses))]
        return [sum(part) / len(part) for part in padded]

    @property
    def least(self) -> int:
        """The step of the least smooth loss."""
        smooth = self.smooth
        return min(range(len(smooth)), key=smooth.__getitem__)

    @property
    def steepest(self) -> float:
        """The rate at which the smooth loss falls fastest over the rate's logarithm, before it is least."""
        smooth, end = self.smooth, max(self.least, 2)
        slopes = [smooth[k + 1] - smooth[k - 1] for k in range(1, end)]
        return self.lrs[1 + min(range(len(slopes)), key=slopes.__getitem__)]

    @property
    def open_ended(self) -> bool:
        """Whether the loss still falls at the range's end, so that the best rate may lie beyond."""
        return not self.diverged and self.least >= len(self.losses) - 2

    @property
    def suggestion(self) -> float:
        """The rate to begin with: a third of that of the least loss."""
        return SHARE * self.lrs[self.least]


@dataclass
class LearningRateFinder:
    """Raises an optimizer's learning rate from step to step; to be thrown away with model and optimizer afterwards.

    Args:
        optimizer: Any optimizer whose groups have ``lr``; where they differ, their ratios stay.
        low, high: Rates at the first and the last step.
        steps: Steps of the test.

    Raises:
        OptionError: rates or steps make no sense, or the optimizer has no learning rate.
    """

    optimizer: torch.optim.Optimizer
    low: float = 1e-6
    high: float = 10.0
    steps: int = 150
    _losses: list[float] = field(default_factory=list)
    _diverged: bool = False

    def __post_init__(self) -> None:
        check_positive("low", self.low)
        check_positive("high", self.high)
        check_count("steps", self.steps, FEWEST, 100_000)
        if self.low >= self.high:
            raise OptionError(f"the range must rise, and low is {self.low:g}, high {self.high:g}")
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        if any("lr" not in group for group in groups):
            raise OptionError("the optimizer's groups have no learning rate (lr) to raise")
        rates = [float(group["lr"]) for group in groups]
        top = max(rates)
        self._ratios = [rate / top if top > 0 else 1.0 for rate in rates]
        self._set(0)

    def step(self, loss: Tensor | float) -> bool:
        """Take the loss of the step just made, and raise the rate.

        Args:
            loss: The minibatch's loss, before the update.

        Returns:
            False when the test is over: all steps are done, or the loss grew past use.

        Raises:
            OptionError: the loss is not one number.
        """
        if self._diverged or len(self._losses) >= self.steps:
            return False
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise OptionError(f"a loss is one number, not of shape {tuple(loss.shape)}: give its mean")
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        best, worst = min(self._losses, default=value), max(self._losses[:FEWEST], default=value)
        past = best + DIVERGED * max(worst - best, 0.1 * abs(best))
        if not math.isfinite(value) or (len(self._losses) >= FEWEST and value > past):
            self._diverged = True
            return False
        self._losses.append(value)
        if len(self._losses) == self.steps:
            return False
        self._set(len(self._losses))
        return True

    def result(self) -> RangeTest:
        """What was found.

        Raises:
            OptionError: no step was made yet.
            DivergenceError: the loss was not finite, or grew, from the first steps on.
        """
        count = len(self._losses)
        found = RangeTest([self._rate(k) for k in range(count)], list(self._losses), self._diverged)
        if not count and not self._diverged:
            raise OptionError("no step was made yet: call finder.step(loss) after each step of the optimizer")
        if count < FEWEST or found.least == 0:
            raise DivergenceError(
                f"the loss only grows, and is of no use after {count} steps: begin the range lower than {self.low:g}"
            )
        return found

    def _rate(self, step: int) -> float:
        return float(self.low * (self.high / self.low) ** (step / (self.steps - 1)))

    def _set(self, step: int) -> None:
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            rate = ratio * self._rate(step)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
