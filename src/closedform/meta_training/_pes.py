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

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from closedform._options import check_count, check_positive
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training._estimator import Estimate, Estimator
from closedform.meta_training._meta_parameters import count as count_parameters
from closedform.meta_training._meta_parameters import gradients, perturbations
from closedform.meta_training._objectives import Objective
from closedform.meta_training._population import copies, run_population
from closedform.meta_training._problem import AnyProblem
from closedform.meta_training._seeds import window_generator
from closedform.meta_training._unroll import Carry


@dataclass(frozen=True)
class PES(Estimator):
    """Persistent evolution strategies.

    An episode's carry is that of the 2 ``pairs`` particles, its first axis; ``memory["xi"]`` is [pairs, D].

    Attributes:
        unroll: Steps of a window; short ones are the point of it.
        std: Standard deviation of a window's perturbation, in units of the meta-parameters.
        pairs: Antithetic pairs of particles.
    """

    unroll: int = 5
    std: float = 0.01
    pairs: int = 4
    name = "pes"

    def __post_init__(self) -> None:
        check_count("unroll", self.unroll)
        check_positive("std", self.std)
        check_count("pairs", self.pairs)

    def start(self, optimizer: LearnedOptimizer, carry: Carry) -> Carry:
        xi = torch.zeros(self.pairs, count_parameters(optimizer), dtype=torch.float64, device=carry.w.device)
        return replace(copies(carry, 2 * self.pairs), memory={"xi": xi})

    @torch.no_grad()
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        noise = perturbations(optimizer, self.pairs, self.std, window_generator(carry))
        xi = carry.memory["xi"] + noise
        losses, after = run_population(optimizer, torch.cat([noise, -noise]), problem, carry, count)
        values = objective(losses, carry.initial).reshape(2 * self.pairs, -1).mean(1)
        up, down = values.double().chunk(2)
        gradient = (up - down) @ xi / (2 * self.std**2 * self.pairs)
        return Estimate(gradients(optimizer, gradient), values.mean(), losses, replace(after, memory={"xi": xi}))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}
