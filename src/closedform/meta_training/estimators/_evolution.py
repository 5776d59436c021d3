"""What evolution strategies share: antithetic pairs of perturbed meta-parameters, and the gradient that they imply."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from closedform._options import check_count, check_positive
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._meta_parameters import gradients, perturbations
from closedform.meta_training.estimators._base import Estimator
from closedform.unroll import Carry, window_generator


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
