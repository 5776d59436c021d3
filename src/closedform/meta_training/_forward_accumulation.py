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

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, State
from closedform.meta_training._coordinates import Subset, check_coordinatewise, draw_subset
from closedform.meta_training._estimator import Estimate, Estimator, objective_weights
from closedform.meta_training._meta_parameters import count as count_parameters
from closedform.meta_training._meta_parameters import directions, gradients, trainable
from closedform.meta_training._objectives import Objective
from closedform.meta_training._problem import AnyProblem
from closedform.meta_training._seeds import window_generator
from closedform.meta_training._unroll import Carry, Step, steps

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
            f"state.{key}": value.new_zeros(rows, *value.shape) for key, value in _moving(state, carry.w.device).items()
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
            products.append(tangents.advance(step))
        value, weights = objective_weights(objective, torch.stack(losses), carry.initial)
        products_by_row = torch.stack(products, 1).reshape(len(products[0]), -1).double()
        gradient = products_by_row @ weights.reshape(-1).double()
        carry = replace(after, memory=tangents.memory)
        return Estimate(gradients(optimizer, gradient), value, torch.stack(losses), carry)


class _Tangents:
    """Derivatives by all meta-parameters on their way along an episode."""

    def __init__(self, optimizer: LearnedOptimizer, carry: Carry) -> None:
        self.optimizer = optimizer
        self.memory = dict(carry.memory)
        self.parameters = {name: value.detach() for name, value in trainable(optimizer).items()}
        self.basis = directions(optimizer, torch.eye(count_parameters(optimizer), dtype=torch.float64))
        self.subset: Subset | None = None
        if "places" in self.memory:
            places = self.memory["places"]
            self.subset = Subset(places, carry.w.shape[-1] / places.shape[-1])

    def advance(self, step: Step) -> Tensor:
        """Go a step further.

        Returns:
            The derivatives of the loss after it, [D, ...]: one for each optimizee.
        """
        before, slopes, factor = step.before, step.after.gradient, 1.0
        g, w, state = before.gradient, before.w, before.state
        if self.subset is not None:
            g, w, slopes = (self.subset.of(value) for value in (g, w, slopes))
            state, factor = self.subset.of_state(state), self.subset.factor
        moving = _moving(state, w.device)

        def update(parameters: dict[str, Tensor], moving: State) -> tuple[Tensor, State]:
            inputs = (g.reshape(-1), w.reshape(-1), {**state, **moving})
            value, new = functional_call(self.optimizer, parameters, inputs)
            return value, {key: new[key] for key in moving}

        def derivative(parameters: dict[str, Tensor], tangents: State) -> tuple[Tensor, State]:
            return jvp(update, (self.parameters, moving), (parameters, tangents))[1]

        change, tangents = vmap(derivative)(self.basis, {key: self.memory[f"state.{key}"] for key in moving})
        self.memory["moved"] = self.memory["moved"] + change.reshape(self.memory["moved"].shape)
        self.memory |= {f"state.{key}": value for key, value in tangents.items()}
        return factor * (self.memory["moved"] * slopes).sum(-1)


def _moving(state: State, device: torch.device) -> State:
    """What of a state can have a derivative, lengths of tensors cannot; all where w is, so that it can be batched."""
    return {key: value.to(device) for key, value in state.items() if value.is_floating_point()}
