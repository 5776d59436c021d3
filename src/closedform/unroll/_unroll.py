"""The one unroll loop: an optimizer at work on a problem. Meta-training, recording and evaluation all run this.

Where an episode stands is a `Carry`. It holds the loss and the gradient at w, on the batch drawn for the step to come;
so one step costs one gradient, and the loss that follows an update is known without another:

    u_s = optimizer(g_{s-1}, w_{s-1});   w_s = w_{s-1} + u_s;   draw a batch;   l_s, g_s = loss and gradient at w_s

Of K optimizees side by side, w is [K, N]. What an optimizer does to a parameter tensor depends on that tensor alone, so
it is given all of them end to end, [K N]: a state's last axis is then K N long too, and its step t counts for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State, UpdateFunction, fresh_state
from closedform.unroll._problem import AnyProblem


@dataclass(frozen=True)
class Carry:
    """Where an episode stands after ``step`` steps.

    Attributes:
        w: The optimizee's parameters, [N]; of K side by side, [K, N].
        state: The optimizer's state.
        loss: The loss at ``w`` on the batch drawn for the next step, a scalar or [K].
        gradient: Its gradient, in the shape of w.
        initial: The loss at the episode's start, a scalar or [K].
        generator: Draws the batches, one for each optimizee; it moves on with every step.
        step: Steps taken so far.
        total: Steps that the episode was begun for.
        memory: What a gradient estimator keeps from one window to the next.
    """

    w: Tensor
    state: State
    loss: Tensor
    gradient: Tensor
    initial: Tensor
    generator: torch.Generator | tuple[torch.Generator, ...]
    step: int = 0
    total: int = 0
    memory: State = field(default_factory=dict)

    def detached(self) -> Carry:
        """The same without any graph."""
        state = {key: value.detach() for key, value in self.state.items()}
        return replace(self, w=self.w.detach(), state=state, loss=self.loss.detach(), gradient=self.gradient.detach())


@dataclass(frozen=True)
class Step:
    """One step s of an unroll.

    Attributes:
        before: The carry that the optimizer read: ``before.gradient`` and ``before.w`` were its inputs.
        update: u_s, in the shape of w; attached to the optimizer's graph if gradients are enabled.
        after: The carry after it: ``after.loss`` is the loss after the update.
    """

    before: Carry
    update: Tensor
    after: Carry


def begin(
    optimizer: LearnedOptimizer,
    problem: AnyProblem,
    generator: torch.Generator | tuple[torch.Generator, ...],
    total_steps: int | None = None,
) -> Carry:
    """The start of an episode: fresh optimizees and optimizer state, drawn with ``generator``.

    Args:
        optimizer: The optimizer.
        problem: The problem.
        generator: Draws starting points and batches.
        total_steps: Steps that the episode will have, for optimizers that follow its progress; None: as the task has.
    """
    w = problem.start(generator)
    loss, gradient = problem.loss_and_grad(w, generator)
    shapes = [*problem.flat.shapes.values()] * (w.numel() // problem.task.size)
    total = total_steps or problem.task.horizon
    state = fresh_state(optimizer, w.reshape(-1), shapes, total)
    return Carry(w, state, loss, gradient, loss, generator, total=total).detached()


def steps(optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int) -> Iterator[Step]:
    """Run an optimizer, one `Step` at a time.

    Args:
        optimizer: The optimizer; bound once, so its meta-parameters must not change before the last step.
        problem: The problem.
        carry: From `begin`, or the last step's ``after``. Its generator is used up: it moves on in place.
        count: Steps to take.
    """
    return unroll(optimizer.bind(), problem, carry, count)


def unroll(
    update_function: UpdateFunction, problem: AnyProblem, carry: Carry, count: int, shape: tuple[int, ...] = (-1,)
) -> Iterator[Step]:
    """As `steps`, for a bound update function, to which w and its gradient are given in ``shape``."""
    for _ in range(count):
        update, state = update_function(carry.gradient.reshape(shape), carry.w.reshape(shape), carry.state)
        update = update.reshape(carry.w.shape)
        w = problem.advance(carry.w, update)
        loss, gradient = problem.loss_and_grad(w, carry.generator)
        after = replace(carry, w=w, state=state, loss=loss, gradient=gradient, step=carry.step + 1)
        yield Step(carry, update, after)
        carry = after


@torch.no_grad()
def run(optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int) -> tuple[Tensor, Carry]:
    """Run an optimizer without any graph.

    Returns:
        The losses after each update, [count] or [count, K], and the carry at the end.
    """
    losses = []
    for step in steps(optimizer, problem, carry, count):
        losses.append(step.after.loss)
        carry = step.after
    return torch.stack(losses) if losses else carry.w.new_zeros(0), carry
