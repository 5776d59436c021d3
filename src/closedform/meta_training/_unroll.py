"""The one unroll loop: an optimizer at work on a problem. Meta-training, recording and evaluation all run this.

Where an episode stands is a `Carry`. It holds the loss and the gradient at w, on the batch drawn for the step to come;
so one step costs one gradient, and the loss that follows an update is known without another:

    u_s = optimizer(g_{s-1}, w_{s-1});   w_s = w_{s-1} + u_s;   draw a batch;   l_s, g_s = loss and gradient at w_s
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.meta_training._problem import Problem


@dataclass(frozen=True)
class Carry:
    """Where an episode stands after ``step`` steps.

    Attributes:
        w: The optimizee's parameters, [N].
        state: The optimizer's state.
        loss: The loss at ``w`` on the batch drawn for the next step, a scalar.
        gradient: Its gradient, [N].
        initial: The loss at the episode's start, a scalar.
        generator: Draws the batches; it moves on with every step.
        step: Steps taken so far.
    """

    w: Tensor
    state: State
    loss: Tensor
    gradient: Tensor
    initial: Tensor
    generator: torch.Generator
    step: int = 0

    def detached(self) -> Carry:
        """The same without any graph."""
        state = {key: value.detach() for key, value in self.state.items()}
        return replace(self, w=self.w.detach(), state=state, loss=self.loss.detach(), gradient=self.gradient.detach())


@dataclass(frozen=True)
class Step:
    """One step s of an unroll.

    Attributes:
        before: The carry that the optimizer read: ``before.gradient`` and ``before.w`` were its inputs.
        update: u_s, [N]; attached to the optimizer's graph if gradients are enabled.
        after: The carry after it: ``after.loss`` is the loss after the update.
    """

    before: Carry
    update: Tensor
    after: Carry


def begin(optimizer: LearnedOptimizer, problem: Problem, generator: torch.Generator) -> Carry:
    """The start of an episode: a fresh optimizee and optimizer state, drawn with ``generator``."""
    w = problem.start(generator)
    loss, gradient = problem.loss_and_grad(w, generator)
    return Carry(w, optimizer.init_state(w, problem.flat.sizes), loss, gradient, loss, generator).detached()


def steps(optimizer: LearnedOptimizer, problem: Problem, carry: Carry, count: int) -> Iterator[Step]:
    """Run an optimizer, one `Step` at a time.

    Args:
        optimizer: The optimizer; bound once, so its meta-parameters must not change before the last step.
        problem: The problem.
        carry: From `begin`, or the last step's ``after``. Its generator is used up: it moves on in place.
        count: Steps to take.
    """
    update_function = optimizer.bind()
    for _ in range(count):
        update, state = update_function(carry.gradient, carry.w, carry.state)
        w = problem.advance(carry.w, update)
        loss, gradient = problem.loss_and_grad(w, carry.generator)
        after = Carry(w, state, loss, gradient, carry.initial, carry.generator, carry.step + 1)
        yield Step(carry, update, after)
        carry = after


@torch.no_grad()
def run(optimizer: LearnedOptimizer, problem: Problem, carry: Carry, count: int) -> tuple[Tensor, Carry]:
    """Run an optimizer without any graph.

    Returns:
        The losses after each update, [count], and the carry at the end.
    """
    losses = []
    for step in steps(optimizer, problem, carry, count):
        losses.append(step.after.loss)
        carry = step.after
    return torch.stack(losses) if losses else carry.w.new_zeros(0), carry
