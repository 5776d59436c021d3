"""What a learned optimizer is: a pure map from gradients to updates, whose weights are the meta-parameters.

All are maps over one flat vector that holds every parameter of the optimizee, end to end; most treat each coordinate
alike and alone. Everything that one remembers between steps is in a `State`, a flat dictionary of tensors, and nothing
anywhere else: so a run can be cut anywhere, kept in a checkpoint and gone on with, or differentiated as a whole.

    state = optimizer.init_state(w, sizes)
    update, state = optimizer.update(g, w, state)
    w = w + update

K optimizees of one optimizer lie end to end in the vector. K optimizers, each with meta-parameters of its own, as some
gradient estimators need them, come from ``bind_stacked``; every tensor, also in the state, then has K rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from closedform.errors import OptionError

State: TypeAlias = dict[str, Tensor]
"""What an optimizer remembers between steps; the step t among it."""
UpdateFunction: TypeAlias = Callable[[Tensor, Tensor, State], tuple[Tensor, State]]
"""``update`` with the meta-parameters filled in: (g [N], w [N], state) -> (update [N], new state)."""
Sizes: TypeAlias = Sequence[int | Sequence[int]]
"""The parameter tensors that lie end to end in a flat vector: of each its shape, or its length alone."""

SIZES = "sizes"
"""Entry of a state: lengths of the parameter tensors, [P]; the same for all optimizees that run side by side."""


TOTAL = "T"
"""Entry of a state: the steps of the whole episode, a scalar in float64, where the optimizer asks for them."""


def lengths(w: Tensor, sizes: Sizes | None) -> list[int]:
    """The number of elements of each parameter tensor in ``w``; without ``sizes`` it is one tensor."""
    if sizes is None:
        return [w.numel()]
    return [size if isinstance(size, int) else math.prod(size) for size in sizes]


def total_state(optimizer: LearnedOptimizer, total_steps: float | None) -> State:
    """The entry ``T`` of a state; nothing for an optimizer that does not ask for it.

    Raises:
        OptionError: the optimizer needs the number of steps, and it is missing or below 1.
    """
    if not optimizer.needs_total_steps:
        return {}
    if total_steps is None:
        raise OptionError(f"{optimizer.name!r} follows the progress of an episode: tell it total_steps, its length")
    if not 1 <= total_steps < math.inf:
        raise OptionError(f"total_steps must be at least 1, not {total_steps!r}")
    return {TOTAL: torch.tensor(float(total_steps), dtype=torch.float64)}


class LearnedOptimizer(nn.Module, ABC):
    """A learned optimizer; its ``nn.Parameter`` entries are the meta-parameters.

    Attributes:
        name: Its name; for a member of the family, its name in ``LEARNED_OPTIMIZERS``.
        features: Names of its input features, in order.
        state_cost: Buffers a parameter that it keeps between steps.
        coordinatewise: Whether what it does to a coordinate depends on that coordinate alone; the entries of its state
            are then scalars or [..., N]. If not, it depends on the coordinate's own parameter tensor alone.
        needs_total_steps: Whether it must be told the length of the episode, which its state keeps as ``T``.
        opaque: Whether it is seen from outside alone: its state cannot be held still, and nothing is differentiated.
        random: Whether its updates draw random numbers.
        source: Where it comes from: authors, year, title.
    """

    name: str
    features: tuple[str, ...]
    state_cost: int
    coordinatewise: bool = True
    needs_total_steps: bool = False
    opaque: bool = False
    random: bool = False
    source: str = "-"

    @abstractmethod
    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        """The state before step 1.

        Args:
            w: The optimizee's parameters, [N].
            sizes: Shapes of the parameter tensors that lie end to end in ``w``, or their lengths, which makes vectors
                of them; None: it is one vector. Only an optimizer that looks at rows and columns needs the shapes.
            total_steps: Steps of the whole episode; only an optimizer with ``needs_total_steps`` reads it.

        Raises:
            OptionError: it needs ``total_steps``, and does not get it.
        """

    @abstractmethod
    def bind(self) -> UpdateFunction:
        """``update`` for the meta-parameters as they are now; what depends on them alone is computed here, once.

        Bind anew after the meta-parameters changed, or after a backward pass through what a bound function returned.
        """

    def update(self, g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: pure, and differentiable in the meta-parameters, g, w and state.

        Args:
            g: The optimizee's gradient, [N].
            w: Its parameters, [N].
            state: From ``init_state`` or the last step; stays as it is.

        Returns:
            The update, [N], for ``w <- w + update``, and the new state.
        """
        return self.bind()(g, w, state)

    def forward(self, g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        """``update``, under the name that ``torch.func.functional_call`` calls."""
        return self.update(g, w, state)

    def bind_stacked(self, parameters: Mapping[str, Tensor]) -> UpdateFunction:
        """``update`` of K optimizers like this one, whose meta-parameters differ.

        Args:
            parameters: Meta-parameters under their names in ``named_parameters``, [K, ...] each; those that are not
                among them are as they are in this one.

        Returns:
            (g [K, N], w [K, N], stacked state) -> (update [K, N], new stacked state).
        """
        step = vmap(lambda inputs, fixed, own: functional_call(self, own, _inputs(inputs, fixed)), in_dims=(0, None, 0))
        return lambda g, w, state: _stacked(step, g, w, state, dict(parameters))

    def describe(self) -> dict[str, Any]:
        """What tells this optimizer from others, apart from its meta-parameters; a JSON object."""
        return {"name": self.name}


def fresh_state(optimizer: LearnedOptimizer, w: Tensor, sizes: Sizes | None, total_steps: int) -> State:
    """The state before step 1 of an episode of known length, which is told only to an optimizer that asks for it.

    So optimizers written before there was ``total_steps`` go on working.
    """
    horizon = {"total_steps": total_steps} if optimizer.needs_total_steps else {}
    return optimizer.init_state(w, sizes, **horizon)


def _stacked(step: Callable[..., Any], g: Tensor, w: Tensor, state: State, *more: Any) -> tuple[Tensor, State]:
    """A step under vmap; what all optimizees share goes round it."""
    fixed = {SIZES: state[SIZES][0]} if SIZES in state else {}
    moving = {key: value for key, value in state.items() if key not in fixed}
    return step((g, w, moving), fixed, *more)


def _inputs(inputs: tuple[Tensor, Tensor, State], fixed: State) -> tuple[Tensor, Tensor, State]:
    g, w, state = inputs
    return g, w, {**state, **fixed}
