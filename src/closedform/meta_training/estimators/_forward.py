"""Forward accumulation: the exact meta-gradient over any horizon, in memory that does not grow with it.

With detached inputs w_t = w_0 + u_1 + ... + u_t, so for every direction c of the meta-parameters phi

    d l_t(w_t)/d phi_c = <g_t, A_t>,    A_t = sum_{s <= t} du_s/dphi_c,    g_t = dl_t/dw_t,

and du_s/dphi_c comes with the step itself, in forward mode: the derivatives of the optimizer's state are carried along
with the state. Nothing is unrolled and nothing truncated: A goes on from window to window. Time and memory are those of
D more optimizers: for rules, whose D is their number of constants. The sum over coordinates can be taken over a random
subset, drawn at the episode's start and scaled up, which is unbiased and costs next to nothing.

The meta-parameters change between windows, so that A mixes derivatives at earlier values, as in real-time recurrent
learning (Williams & Zipser 1989); the source of the forward mode for hyperparameters is Franceschi et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.meta_training._forward_mode import carry_on, moving
from closedform.meta_training._meta_parameters import count as count_parameters
from closedform.meta_training._meta_parameters import directions, gradients, trainable
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate, Estimator, objective_weights
from closedform.meta_training.estimators._window import Subset, check_coordinatewise, draw_subset
from closedform.unroll import AnyProblem, Carry, Step, steps, window_generator

Inputs: TypeAlias = list[tuple[Tensor, Tensor, Tensor]]
"""For each step the gradient and the parameters that the optimizer read, and the gradient after it."""

BLOCK = 5
"""Steps whose inputs are kept until derivatives go on over all of them: it saves binding the optimizer every step."""
LARGEST = 1_000
"""Meta-parameters up to which forward accumulation is offered: it takes as many derivatives of every coordinate."""


@dataclass(frozen=True)
class ForwardAccumulation(Estimator):
    """Forward accumulation.

    An episode's ``memory`` holds ``moved``: A, [D, ...] with the shape of w or of the subset; ``places`` of the
    subset, if there is one; and ``state.x``, the derivatives of the state's entry x, [D, ...].

    Attributes:
        unroll: Steps of a window, after which the meta-parameters are updated.
        coordinates: Take derivatives of that many random coordinates of each optimizee, drawn at the episode's start;
            None: of all. For coordinatewise optimizers.
    """

    unroll: int = 20
    coordinates: int | None = None
    name = "forward-accumulation"

    def __post_init__(self) -> None:
        check_count("unroll", self.unroll)
        if self.coordinates is not None:
            check_count("coordinates", self.coordinates)

    def check(self, optimizer: LearnedOptimizer) -> None:
        parameters = count_parameters(optimizer)
        if parameters > LARGEST:
            raise OptionError(
                f"forward accumulation is for up to {LARGEST:,} meta-parameters and {optimizer.name!r} has "
                f"{parameters:,}: use truncated-bptt or pes"
            )
        if self.coordinates is not None:
            check_coordinatewise(optimizer, "coordinates")

    def start(self, optimizer: LearnedOptimizer, carry: Carry) -> Carry:
        memory: State = {}
        shape, state = carry.w.shape, carry.state
        if self.coordinates is not None and self.coordinates < carry.w.shape[-1]:
            subset = draw_subset(carry, self.coordinates, window_generator(carry))
            memory["places"] = subset.places
            shape, state = subset.places.shape, subset.of_state(state)
        rows = count_parameters(optimizer)
        memory["moved"] = carry.w.new_zeros(rows, *shape)
        memory |= {
            f"state.{key}": value.new_zeros(rows, *value.shape) for key, value in moving(state, carry.w.device).items()
        }
        return replace(carry, memory=memory)

    @torch.no_grad()
    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        tangents = _Tangents(optimizer, carry)
        losses, products, after = [], [], carry
        for step in steps(optimizer, problem, carry, count):
            after = step.after
            losses.append(after.loss)
            tangents.see(step)
            if len(tangents.seen) == BLOCK or len(losses) == count:
                products.append(tangents.advance())
        value, weights = objective_weights(objective, torch.stack(losses), carry.initial)
        gradient = torch.cat(products, 1).flatten(1).double() @ weights.flatten().double()
        carry = replace(after, memory=tangents.memory)
        return Estimate(gradients(optimizer, gradient), value, torch.stack(losses), carry)


class _Replay(nn.Module):
    """The optimizer on inputs that were recorded; a function of its meta-parameters for ``functional_call``."""

    def __init__(self, optimizer: LearnedOptimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    def forward(self, inputs: Inputs, state: State, moved: Tensor) -> tuple[Tensor, State, Tensor]:
        """Take the steps.

        Args:
            inputs: For each step g, w, and the gradient after it.
            state: The state before the first.
            moved: The sum of all updates before, [n] or [K, n].

        Returns:
            The inner product of each step's gradient with the sum of all updates up to it, [steps, ...], whose
            derivative is that of the loss; the state and the sum after the last.
        """
        update_function, products = self.optimizer.bind(), []
        for g, w, slope in inputs:
            update, state = update_function(g.reshape(-1), w.reshape(-1), state)
            moved = moved + update.reshape(moved.shape)
            products.append((slope * moved).sum(-1))
        return torch.stack(products), state, moved


class _Tangents:
    """Derivatives by all meta-parameters on their way along an episode."""

    def __init__(self, optimizer: LearnedOptimizer, carry: Carry) -> None:
        self.replay = _Replay(optimizer)
        self.memory = dict(carry.memory)
        parameters, basis = trainable(optimizer), directions(optimizer, torch.eye(count_parameters(optimizer)))
        self.parameters = {f"optimizer.{name}": value.detach() for name, value in parameters.items()}
        self.basis = {f"optimizer.{name}": value for name, value in basis.items()}
        self.subset: Subset | None = None
        self.seen: Inputs = []
        self.state: State = {}
        if "places" in self.memory:
            places = self.memory["places"]
            self.subset = Subset(places, carry.w.shape[-1] / places.shape[-1])

    def see(self, step: Step) -> None:
        """Keep what the next `advance` needs of a step."""
        inputs, state = (step.before.gradient, step.before.w, step.after.gradient), step.before.state
        if self.subset is not None:
            g, w, slope = (self.subset.of(value) for value in inputs)
            inputs, state = (g, w, slope), self.subset.of_state(state)
        if not self.seen:
            self.state = state
        self.seen.append(inputs)

    def advance(self) -> Tensor:
        """Go on over the steps seen since the last time.

        Returns:
            The derivatives of the loss after each, [D, steps, ...]: one for each optimizee.
        """
        inputs, self.seen, state = self.seen, [], self.state
        before = {key: self.memory[f"state.{key}"] for key in moving(state)}
        products, tangents, self.memory["moved"] = carry_on(
            self.replay, inputs, state, self.parameters, self.basis, before, self.memory["moved"]
        )
        self.memory |= {f"state.{key}": value for key, value in tangents.items()}
        return products if self.subset is None else self.subset.factor * products
