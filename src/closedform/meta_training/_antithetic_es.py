"""Antithetic evolution strategies on a window: the meta-gradient of a smoothed meta-loss, without any graph.

With L(phi) the meta-loss of a window whose start is taken as given, and eps ~ N(0, std^2),

    E[(L(phi + eps) - L(phi - eps)) eps] / (2 std^2) = grad E[L(phi + eps)].

It is the total derivative, with how updates change later gradients, and smooths away the cliffs of long unrolls. What
the window's start owes to the meta-parameters is left out, as in truncated backpropagation; ``PES`` keeps it.

Source: Metz et al. 2019, Understanding and correcting pathologies in the training of learned optimizers, section 3;
antithetic pairs as in Salimans et al. 2017.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from closedform._options import check_count, check_positive
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._estimator import Estimate, Estimator
from closedform.meta_training._meta_parameters import gradients, perturbations
from closedform.meta_training._objectives import Objective
from closedform.meta_training._population import copies, row, run_population
from closedform.meta_training._problem import AnyProblem
from closedform.meta_training._seeds import window_generator
from closedform.meta_training._unroll import Carry


@dataclass(frozen=True)
class AntitheticES(Estimator):
    """Truncated antithetic evolution strategies. The unperturbed optimizer moves the episode on.

    Attributes:
        unroll: Steps of a window.
        std: Standard deviation of the perturbations, in units of the meta-parameters.
        pairs: Perturbations a window; each is tried in both directions.
    """

    unroll: int = 20
    std: float = 0.01
    pairs: int = 4
    name = "antithetic-es"

    def __post_init__(self) -> None:
        check_count("unroll", self.unroll)
        check_positive("std", self.std)
        check_count("pairs", self.pairs)

    @torch.no_grad()
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        noise = perturbations(optimizer, self.pairs, self.std, window_generator(carry))
        offsets = torch.cat([torch.zeros_like(noise[:1]), noise, -noise])
        losses, after = run_population(optimizer, offsets, problem, copies(carry, len(offsets)), count)
        values = objective(losses, carry.initial).reshape(len(offsets), -1).mean(1)
        up, down = values[1:].double().chunk(2)
        gradient = (up - down) @ noise / (2 * self.std**2 * self.pairs)
        return Estimate(gradients(optimizer, gradient), values[0], losses[:, 0], row(after, 0))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}
