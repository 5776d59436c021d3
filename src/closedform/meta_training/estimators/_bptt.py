"""Truncated backpropagation through time: the exact meta-gradient of a window, whose start is taken as given.

By default the optimizer's inputs are detached from the optimizee: how an update changes later gradients is left out
(Andrychowicz et al. 2016, section 2.1). Then w_s = w_0 + u_1 + ... + u_s, and by the meta-parameters phi

    d/dphi sum_s a_s l_s(w_s) = sum_s <G_s, du_s/dphi>,    G_s = sum_{r >= s} a_r dl_r/dw_r,

where a_s is the derivative of the meta-loss in l_s. The G_s are suffix sums of gradients that the optimizer is given
anyway; so the optimizee needs no graph, and one backward pass through the optimizer alone is all.

The inner products are sums over coordinates, of which a random subset, scaled up, is an unbiased estimate. Most of a
window's time and memory is the optimizer's graph: so the window is run without one, and the optimizer once more on the
subset with one (``_window.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate, Estimator
from closedform.meta_training.estimators._window import check_coordinatewise, choose_subset, derivatives, run_window
from closedform.unroll import AnyProblem, Carry, Step, steps


@dataclass(frozen=True)
class TruncatedBPTT(Estimator):
    """Truncated backpropagation through time.

    Attributes:
        unroll: Steps of a window, K.
        second_order: Include how updates change later gradients: the total derivative, at several times the cost.
        coordinates: Take the gradient through that many random coordinates of each optimizee, drawn anew for every
            window; None: through all. For coordinatewise optimizers, and without ``second_order``.
    """

    unroll: int = 20
    second_order: bool = False
    coordinates: int | None = None
    name = "truncated-bptt"

    def __post_init__(self) -> None:
        check_count("unroll", self.unroll)
        if self.coordinates is not None:
            check_count("coordinates", self.coordinates)
            if self.second_order:
                raise OptionError("second_order links coordinates with one another: leave coordinates out")

    def check(self, optimizer: LearnedOptimizer) -> None:
        if self.coordinates is not None:
            check_coordinatewise(optimizer, "coordinates")

    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        if self.second_order:
            return _total(optimizer, problem.differentiable(), carry, count, objective)
        window = run_window(optimizer, problem, carry, count, choose_subset(optimizer, carry, self.coordinates))
        return window.estimate(optimizer, carry.initial, objective)


def _total(
    optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
) -> Estimate:
    with torch.enable_grad():
        window: list[Step] = list(steps(optimizer, problem, carry, count))
        losses = torch.stack([step.after.loss for step in window])
        value = objective(losses, carry.initial).mean()
    return Estimate(derivatives([value], optimizer), value.detach(), losses.detach(), window[-1].after.detached())
