"""Truncated backpropagation through time: the exact meta-gradient of a window, whose start is taken as given.

By default the optimizer's inputs are detached from the optimizee: how an update changes later gradients is left out
(Andrychowicz et al. 2016, section 2.1). Then w_s = w_0 + u_1 + ... + u_s, and by the meta-parameters phi

    d/dphi sum_s a_s l_s(w_s) = sum_s <G_s, du_s/dphi>,    G_s = sum_{r >= s} a_r dl_r/dw_r,

where a_s is the derivative of the meta-loss in l_s. The G_s are suffix sums of gradients that the optimizer is given
anyway; so the optimizee needs no graph, and one backward pass through the optimizer alone is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._estimator import Estimate, Estimator
from closedform.meta_training._objectives import Objective
from closedform.meta_training._problem import DifferentiableProblem, Problem
from closedform.meta_training._unroll import Carry, Step, steps


@dataclass(frozen=True)
class TruncatedBPTT(Estimator):
    """Truncated backpropagation through time.

    Attributes:
        unroll: Steps of a window, K.
        second_order: Include how updates change later gradients: the total derivative, at several times the cost.
    """

    unroll: int = 20
    second_order: bool = False
    name = "truncated-bptt"

    def __post_init__(self) -> None:
        if isinstance(self.unroll, bool) or not isinstance(self.unroll, int) or self.unroll < 1:
            raise OptionError(f"unroll must be a whole number of at least 1, not {self.unroll!r}")

    def estimate(
        self, optimizer: LearnedOptimizer, problem: Problem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        if self.second_order:
            problem = DifferentiableProblem(problem.task, problem.split, problem.scale)
        with torch.enable_grad():
            window = list(steps(optimizer, problem, carry, count))
            losses = torch.stack([step.after.loss for step in window])
        method = _total if self.second_order else _detached
        parameters = [parameter for parameter in optimizer.parameters() if parameter.requires_grad]
        value, gradients = method(window, losses, carry.initial, objective, parameters)
        return Estimate(gradients, value, losses.detach(), window[-1].after.detached())

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


def _total(
    window: list[Step], losses: Tensor, initial: Tensor, objective: Objective, parameters: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.enable_grad():
        value = objective(losses, initial)
    return value.detach(), torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)


def _detached(
    window: list[Step], losses: Tensor, initial: Tensor, objective: Objective, parameters: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.enable_grad():
        losses = losses.requires_grad_()
        value = objective(losses, initial)
        (weights,) = torch.autograd.grad(value, losses)
    updates = [step.update for step in window]
    gradients = torch.stack([step.after.gradient for step in window]) * weights.to(updates[0].dtype)[:, None]
    suffix_sums = gradients.flip(0).cumsum(0).flip(0)
    cotangents = list(suffix_sums.unbind())
    return value.detach(), torch.autograd.grad(
        updates, parameters, cotangents, allow_unused=True, materialize_grads=True
    )
