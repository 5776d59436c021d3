"""Persistent evolution strategies: unbiased over a whole episode, though it is run in windows.

Every particle has an optimizee and an optimizer state of its own, which it keeps from one window to the next, and draws
a new perturbation eps of the meta-parameters for every window. What a window's loss owes to all windows before it, it
owes to their perturbations: so each loss is weighted with their sum xi = eps_1 + ... + eps_window,

    E[sum over windows of (L_window(+) - L_window(-)) xi] / (2 std^2) = gradient of the smoothed sum of all losses,

where the particles + and - of an antithetic pair are perturbed by eps and -eps throughout.

Source: Vicol, Metz & Sohl-Dickstein 2021, Unbiased gradient estimation in unrolled computation graphs with persistent
evolution strategies, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._meta_parameters import count as count_parameters
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate
from closedform.meta_training.estimators._evolution import EvolutionStrategy, copies, run_population
from closedform.unroll import AnyProblem, Carry


@dataclass(frozen=True)
class PES(EvolutionStrategy):
    """Persistent evolution strategies; short windows are the point of it.

    An episode's carry is that of the 2 ``pairs`` particles, its first axis; ``memory["xi"]`` is [pairs, D].
    """

    unroll: int = 5
    name = "pes"
    particles = True

    def start(self, optimizer: LearnedOptimizer, carry: Carry) -> Carry:
        xi = torch.zeros(self.pairs, count_parameters(optimizer), dtype=torch.float64, device=carry.w.device)
        return replace(copies(carry, 2 * self.pairs), memory={"xi": xi})

    @torch.no_grad()
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        noise = self.noise(optimizer, carry)
        xi = carry.memory["xi"] + noise
        losses, after = run_population(optimizer, torch.cat([noise, -noise]), problem, carry, count)
        values = objective(losses, carry.initial).reshape(2 * self.pairs, -1).mean(1)
        gradients = self.gradients(optimizer, values, xi)
        return Estimate(gradients, values.mean(), losses, replace(after, memory={"xi": xi}))
