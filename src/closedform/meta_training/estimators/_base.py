"""What a gradient estimator is: it runs a window of an episode, and says how the meta-loss changes with the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.meta_training._objectives import Objective
from closedform.unroll import AnyProblem, Carry


@dataclass(frozen=True)
class Estimate:
    """What a window of T steps gave.

    Attributes:
        gradients: d(meta-loss)/d(meta-parameters), in the order of ``optimizer.parameters()``.
        value: The meta-loss, a scalar: the mean over optimizees.
        losses: The losses after each update, [T]; of several optimizees side by side, [T, ...].
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
        particles: Whether its episodes are run by many perturbed optimizers and not by the optimizer itself.
    """

    name: str
    unroll: int
    particles = False

    def check(self, optimizer: LearnedOptimizer) -> None:
        """Raise OptionError if it cannot work with this optimizer."""
        return

    def at(self, step: int) -> Estimator:
        """The estimator of the meta-step after ``step`` others: one whose options change as training goes on says how.

        It must do with any carry that the estimator itself began or left.
        """
        return self

    def start(self, optimizer: LearnedOptimizer, carry: Carry) -> Carry:
        """Prepare a fresh episode's carry: an estimator that remembers begins its ``memory`` here."""
        return carry

    def adds(self, problem: AnyProblem, carry: Carry) -> State:
        """Tensors like those that `estimate` may add to a carry's ``memory``, by name; by default it adds none."""
        return {}

    @abstractmethod
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        """Run ``count`` steps from ``carry`` and estimate the meta-gradient of ``objective`` over them."""

    def describe(self) -> dict[str, Any]:
        """Its name and options, a JSON object; by default the fields of the dataclass that it is."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


def objective_weights(objective: Objective, losses: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """A window's meta-loss, a scalar, and its derivatives in the losses, in their shape."""
    with torch.enable_grad():
        losses = losses.detach().requires_grad_()
        value = objective(losses, initial).mean()
        (weights,) = torch.autograd.grad(value, losses)
    return value.detach(), weights
