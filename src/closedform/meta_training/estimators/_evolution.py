"""What evolution strategies share: antithetic pairs of perturbed meta-parameters, and the gradient that they imply.

Many copies of an optimizer are at work then, each with meta-parameters of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from closedform._options import check_count, check_positive
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._meta_parameters import gradients, moved, perturbations
from closedform.meta_training.estimators._base import Estimator
from closedform.unroll import AnyProblem, Carry, unroll, window_generator


@dataclass(frozen=True)
class EvolutionStrategy(Estimator):
    """An estimator that compares optimizers whose meta-parameters are moved in opposite directions.

    Attributes:
        unroll: Steps of a window.
        std: Standard deviation of a window's perturbation, in units of the meta-parameters.
        pairs: Perturbations a window; each is tried in both directions.
    """

    unroll: int = 20
    std: float = 0.01
    pairs: int = 4

    def __post_init__(self) -> None:
        check_count("unroll", self.unroll)
        check_positive("std", self.std)
        check_count("pairs", self.pairs)

    def noise(self, optimizer: LearnedOptimizer, carry: Carry) -> Tensor:
        """The perturbations of the window that starts at ``carry``, [pairs, D] float64."""
        return perturbations(optimizer, self.pairs, self.std, window_generator(carry))

    def gradients(self, optimizer: LearnedOptimizer, values: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
        """The mean over pairs of (L(+) - L(-)) direction / (2 std^2).

        Args:
            optimizer: Whose meta-parameters they are.
            values: Meta-losses of all copies, those moved forward first, [2 pairs].
            directions: What each pair's difference is put down to, [pairs, D].
        """
        up, down = values.double().chunk(2)
        return gradients(optimizer, (up - down) @ directions / (2 * self.std**2 * self.pairs))


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
