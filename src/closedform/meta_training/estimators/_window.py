"""A window run for backpropagation: what the optimizer did, with a graph through all coordinates or a random subset.

Through a subset the window is run twice: without a graph, and then the optimizer alone once more, on what the subset
was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate, objective_weights
from closedform.unroll import AnyProblem, Carry, Step, steps, window_generator

Watch: TypeAlias = Callable[[Step], None]
"""Sees every step of a window as it is taken."""


@dataclass(frozen=True)
class Window:
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

    def estimate(self, optimizer: LearnedOptimizer, initial: Tensor, objective: Objective) -> Estimate:
        """The meta-loss and its gradients: the updates' vector-Jacobian product with the suffix sums of slopes."""
        value, weights = objective_weights(objective, self.losses, initial)
        weights = self.factor * weights.to(self.updates[0].dtype)
        suffix_sums = (torch.stack(self.slopes) * weights[..., None]).flip(0).cumsum(0).flip(0)
        gradients = derivatives(self.updates, optimizer, list(suffix_sums.unbind()))
        return Estimate(gradients, value, self.losses, self.carry)


def run_window(
    optimizer: LearnedOptimizer,
    problem: AnyProblem,
    carry: Carry,
    count: int,
    subset: Subset | None,
    watch: Watch = lambda step: None,
) -> Window:
    """Run ``count`` steps from ``carry``, with the optimizer's graph through a subset of coordinates, or through all.

    Args:
        optimizer: The optimizer.
        problem: The problem.
        carry: Where the window starts.
        count: Steps.
        subset: The coordinates; None: all.
        watch: Is shown every step; it must not build a graph.
    """
    if subset is None:
        return _whole_window(optimizer, problem, carry, count, watch)
    return _window_of_subset(optimizer, problem, carry, count, subset, watch)


def choose_subset(optimizer: LearnedOptimizer, carry: Carry, count: int | None) -> Subset | None:
    """The random coordinates of the window that starts at ``carry``; None if that is all of them."""
    if count is None or count >= carry.w.shape[-1]:
        return None
    check_coordinatewise(optimizer, "coordinates")
    return draw_subset(carry, count, window_generator(carry))


def _whole_window(optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, watch: Watch) -> Window:
    window = []
    with torch.enable_grad():
        for step in steps(optimizer, problem, carry, count):
            watch(step)
            window.append(step)
    losses = torch.stack([step.after.loss for step in window])
    slopes = [step.after.gradient for step in window]
    return Window(losses, [step.update for step in window], slopes, window[-1].after.detached())


def _window_of_subset(
    optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, subset: Subset, watch: Watch
) -> Window:
    state = subset.of_state(carry.state)
    seen: list[tuple[Tensor, Tensor]] = []
    losses, slopes, after = [], [], carry
    with torch.no_grad():
        for step in steps(optimizer, problem, carry, count):
            watch(step)
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
    return Window(torch.stack(losses), updates, slopes, after, subset.factor)


def derivatives(
    outputs: Sequence[Tensor],
    optimizer: LearnedOptimizer,
    cotangents: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Derivatives of outputs, each multiplied by its cotangent, in the meta-parameters; 0 where there is no path."""
    parameters = [parameter for parameter in optimizer.parameters() if parameter.requires_grad]
    return torch.autograd.grad(outputs, parameters, cotangents, retain_graph, allow_unused=True, materialize_grads=True)


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
