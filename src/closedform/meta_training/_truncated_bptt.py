"""Truncated backpropagation through time: the exact meta-gradient of a window, whose start is taken as given.

By default the optimizer's inputs are detached from the optimizee: how an update changes later gradients is left out
(Andrychowicz et al. 2016, section 2.1). Then w_s = w_0 + u_1 + ... + u_s, and by the meta-parameters phi

    d/dphi sum_s a_s l_s(w_s) = sum_s <G_s, du_s/dphi>,    G_s = sum_{r >= s} a_r dl_r/dw_r,

where a_s is the derivative of the meta-loss in l_s. The G_s are suffix sums of gradients that the optimizer is given
anyway; so the optimizee needs no graph, and one backward pass through the optimizer alone is all.

The inner products are sums over coordinates, of which a random subset, scaled up, is an unbiased estimate. Most of a
window's time and memory is the optimizer's graph: so the window is run without one, and the optimizer once more on the
subset with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._coordinates import Subset, check_coordinatewise, draw_subset
from closedform.meta_training._estimator import Estimate, Estimator, objective_weights
from closedform.meta_training._objectives import Objective
from closedform.meta_training._problem import AnyProblem
from closedform.meta_training._seeds import window_generator
from closedform.meta_training._unroll import Carry, Step, steps


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
        if self.coordinates is None or self.coordinates >= carry.w.shape[-1]:
            window = _whole_window(optimizer, problem, carry, count)
        else:
            self.check(optimizer)
            subset = draw_subset(carry, self.coordinates, window_generator(carry))
            window = _window_of_subset(optimizer, problem, carry, count, subset)
        value, gradients = window.gradients(optimizer, carry.initial, objective)
        return Estimate(gradients, value, window.losses, window.carry)


@dataclass(frozen=True)
class _Window:
    """What a window of T steps left behind.

    Attributes:
        losses: After each update, [T, ...].
        updates: u_s at n coordinates, T of [..., n], attached to the optimizer's graph.
        slopes: Gradients after each update at the same coordinates, T of [..., n].
        carry: Its end, without a graph.
        factor: What a sum over the coordinates is multiplied by.
    """

    losses: Tensor
    updates: list[Tensor]
    slopes: list[Tensor]
    carry: Carry
    factor: float = 1.0

    def gradients(
        self, optimizer: LearnedOptimizer, initial: Tensor, objective: Objective
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The meta-loss and its gradients: the updates' vector-Jacobian product with the suffix sums of slopes."""
        value, weights = objective_weights(objective, self.losses, initial)
        weights = self.factor * weights.to(self.updates[0].dtype)
        suffix_sums = (torch.stack(self.slopes) * weights[..., None]).flip(0).cumsum(0).flip(0)
        return value, _grad(self.updates, optimizer, list(suffix_sums.unbind()))


def _whole_window(optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int) -> _Window:
    with torch.enable_grad():
        window = list(steps(optimizer, problem, carry, count))
    losses = torch.stack([step.after.loss for step in window])
    slopes = [step.after.gradient for step in window]
    return _Window(losses, [step.update for step in window], slopes, window[-1].after.detached())


def _window_of_subset(
    optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, subset: Subset
) -> _Window:
    state = subset.of_state(carry.state)
    seen: list[tuple[Tensor, Tensor]] = []
    losses, slopes, after = [], [], carry
    with torch.no_grad():
        for step in steps(optimizer, problem, carry, count):
            seen.append((subset.of(step.before.gradient), subset.of(step.before.w)))
            after = step.after
            losses.append(after.loss)
            slopes.append(subset.of(after.gradient))
    updates = []
    with torch.enable_grad():
        update_function = optimizer.bind()
        for g, w in seen:
            update, state = update_function(g.reshape(-1), w.reshape(-1), state)
            updates.append(update.reshape(g.shape))
    return _Window(torch.stack(losses), updates, slopes, after, subset.factor)


def _total(
    optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
) -> Estimate:
    with torch.enable_grad():
        window: list[Step] = list(steps(optimizer, problem, carry, count))
        losses = torch.stack([step.after.loss for step in window])
        value = objective(losses, carry.initial).mean()
    return Estimate(_grad([value], optimizer), value.detach(), losses.detach(), window[-1].after.detached())


def _grad(
    outputs: Sequence[Tensor], optimizer: LearnedOptimizer, cotangents: Sequence[Tensor] | None = None
) -> tuple[Tensor, ...]:
    parameters = [parameter for parameter in optimizer.parameters() if parameter.requires_grad]
    return torch.autograd.grad(outputs, parameters, cotangents, allow_unused=True, materialize_grads=True)
