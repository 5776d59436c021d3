"""Antithetic evolution strategies on a window: the meta-gradient of a smoothed meta-loss, without any graph.

With L(phi) the meta-loss of a window whose start is taken as given, and eps ~ N(0, std^2),

    E[(L(phi + eps) - L(phi - eps)) eps] / (2 std^2) = grad E[L(phi + eps)].

It is the total derivative, with how updates change later gradients, and smooths away the cliffs of long unrolls. What
the window's start owes to the meta-parameters is left out, as in truncated backpropagation; ``PES`` keeps it.

Source: Metz et al. 2019, Understanding and correcting pathologies in the training of learned optimizers, section 3;
antithetic pairs as in Salimans et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate
from closedform.meta_training.estimators._evolution import EvolutionStrategy, copies, row, run_population
from closedform.unroll import AnyProblem, Carry


@dataclass(frozen=True)
class AntitheticES(EvolutionStrategy):
    """Truncated antithetic evolution strategies. The unperturbed optimizer moves the episode on."""

    name = "antithetic-es"

    @torch.no_grad()
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        noise = self.noise(optimizer, carry)
        offsets = torch.cat([noise, -noise, torch.zeros_like(noise[:1])])
        losses, after = run_population(optimizer, offsets, problem, copies(carry, len(offsets)), count)
        values = objective(losses, carry.initial).reshape(len(offsets), -1).mean(1)
        gradients = self.gradients(optimizer, values[:-1], noise)
        return Estimate(gradients, values[-1], losses[:, -1], row(after, -1))
