"""What a gradient estimator is: it runs a window of an episode, and says how the meta-loss changes with the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._objectives import Objective
from closedform.meta_training._problem import Problem
from closedform.meta_training._unroll import Carry


@dataclass(frozen=True)
class Estimate:
    """What a window gave.

    Attributes:
        gradients: d(meta-loss)/d(meta-parameters), in the order of ``optimizer.parameters()``.
        value: The meta-loss, a scalar.
        losses: The losses after each update, [K].
        carry: Where the episode stands after the window, without a graph.
    """

    gradients: tuple[Tensor, ...]
    value: Tensor
    losses: Tensor
    carry: Carry


class Estimator(ABC):
    """A gradient estimator.

    Attributes:
        name: Its name in ``ESTIMATORS``.
        unroll: Steps of a window; an episode's last window may be shorter.
    """

    name: str
    unroll: int

    @abstractmethod
    def estimate(
        self, optimizer: LearnedOptimizer, problem: Problem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        """Run ``count`` steps from ``carry`` and estimate the meta-gradient of ``objective`` over them."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Its name and options, a JSON object."""
