"""Many copies of an optimizer at work, each with meta-parameters of its own: what evolution strategies run.

All copies see the same batches: their losses then differ by what the meta-parameters do and not by luck.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._meta_parameters import moved
from closedform.unroll import AnyProblem, Carry, unroll


def copies(carry: Carry, count: int) -> Carry:
    """A carry repeated: w and all that goes with it have a first axis of ``count`` rows.

    The step is a row of numbers then, and lies where w does.
    """

    def repeat(value: Tensor) -> Tensor:
        return value.expand(count, *value.shape)

    here = {key: value if value.dim() else value.to(carry.w.device) for key, value in carry.state.items()}
    state = {key: repeat(value) for key, value in here.items()}
    return replace(carry, w=repeat(carry.w), state=state, loss=repeat(carry.loss), gradient=repeat(carry.gradient))


def row(carry: Carry, index: int) -> Carry:
    """One of the rows of ``copies``."""
    state = {key: value[index] for key, value in carry.state.items()}
    return replace(carry, w=carry.w[index], state=state, loss=carry.loss[index], gradient=carry.gradient[index])


@torch.no_grad()
def run_population(
    optimizer: LearnedOptimizer, offsets: Tensor, problem: AnyProblem, carry: Carry, count: int
) -> tuple[Tensor, Carry]:
    """Run R copies of an optimizer, without any graph.

    Args:
        optimizer: The optimizer.
        offsets: What each copy adds to the D meta-parameters, [R, D].
        problem: The problem.
        carry: Of R rows.
        count: Steps to take.

    Returns:
        The losses after each update, [count, R, ...], and the carry at the end.
    """
    losses = []
    update_functions = optimizer.bind_stacked(moved(optimizer, offsets))
    for step in unroll(update_functions, problem, carry, count, (len(offsets), -1)):
        losses.append(step.after.loss)
        carry = step.after
    return torch.stack(losses), carry
