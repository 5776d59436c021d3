"""Input features of a network, computed step by step from gradients: the part of its state that is not learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import vmap

from closedform.features import feature_program
from closedform.lang import HORIZON_INPUTS, horizon_inputs, initial_memory, reduce_whole
from closedform.learned_optimizers._base import TOTAL, State
from closedform.learned_optimizers._torch_program import TorchProgram

InputFunction: TypeAlias = Callable[[Tensor, Tensor, State], tuple[dict[str, Tensor], State]]
"""(g, w, state) -> (features by name, the new state's part: the step and the features' recurrences)."""

_PREFIX = "feature."
CLOCK_ENTRIES = ("t", TOTAL)
"""Entries of a state that are one number for all parameters."""


class Inputs:
    """Some features of ``FEATURES``; in a state they keep the step ``t``, and ``feature.m``, ..., their recurrences.

    Args:
        features: Their names.
    """

    def __init__(self, features: Sequence[str]) -> None:
        self._plan = TorchProgram(feature_program(features).merged)
        self.buffers = self._plan.program.buffers
        self.needs_total_steps = bool(self._plan.program.reads & HORIZON_INPUTS.keys())

    def init_state(self, w: Tensor) -> State:
        """The part before step 1 for parameters ``w``, [N]."""
        memory = initial_memory(self._plan.program, w, flat=True)
        return {
            "t": torch.zeros((), dtype=torch.float64),
            **{_PREFIX + key: value for key, value in memory.items()},
        }

    def bind(self) -> InputFunction:
        """The features of the next step, [N] each, or a scalar where they are the same for all parameters."""
        step = self._plan.bind()

        def features(g: Tensor, w: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
            t = state["t"] + 1
            memory = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
            horizon = {TOTAL: state[TOTAL]} if TOTAL in state else {}
            inputs = {"g": g, "w": w, "t": t, **(horizon_inputs(t, state[TOTAL]) if horizon else {})}
            found, memory = step(inputs, memory, reduce_whole)
            return found, {"t": t, **horizon, **{_PREFIX + key: value for key, value in memory.items()}}

        return features

    def bind_stacked(self) -> InputFunction:
        """The same for K optimizees, everything with K rows; in one piece if all of them are at the same step."""
        bound = self.bind()
        apart = vmap(bound)

        def features(g: Tensor, w: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
            own = {key: value for key, value in state.items() if key in CLOCK_ENTRIES or key.startswith(_PREFIX)}
            clock = {key: own[key] for key in CLOCK_ENTRIES if key in own}
            elementwise = all(value.dim() == 2 for key, value in own.items() if key not in CLOCK_ENTRIES)
            if not elementwise or not all(bool((value == value[0]).all()) for value in clock.values()):
                return apart(g, w, own)
            found, new = bound(g, w, {**own, **{key: value[0] for key, value in clock.items()}})
            return found, {**new, **clock, "t": clock["t"] + 1}

        return features
