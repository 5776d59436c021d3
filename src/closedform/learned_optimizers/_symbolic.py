"""A rule as a learned optimizer: its constants are the meta-parameters.

Meta-tuning is meta-training of this one. What comes out is a rule again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from closedform._names import lookup
from closedform.errors import OptionError
from closedform.features import FEATURES
from closedform.lang import (
    SHAPE_INPUTS,
    Memory,
    Reduce,
    horizon_inputs,
    initial_memory,
    lags,
    matrix_shape,
    names,
    reduce_whole,
)
from closedform.learned_optimizers._base import SIZES, LearnedOptimizer, Sizes, State, UpdateFunction, lengths
from closedform.learned_optimizers._constant_roles import Role, constant_roles, from_coordinate
from closedform.learned_optimizers._torch_program import TorchProgram, segment_reduce, segment_shapes
from closedform.rules import Rule

T = "T"
"""The entry of a state that holds the number of steps of the whole run."""
LR = "lr"
"""What the rule's learning rate is called among its trainable constants."""


class SymbolicOptimizer(LearnedOptimizer):
    """A rule whose constants, and ``lr``, can be trained.

    The one meta-parameter is ``coordinates`` [C], float64: where each trainable constant stands, 0 being its value in
    the rule given (see ``_constants.py`` for what a coordinate means). The state holds the step ``t``, the rule's
    states as ``rule.m``, ..., and what the rule needs to know: the total number of steps ``T``; ``sizes``, which are
    lengths [P] if the rule reduces over parameter tensors, [P, 3] (dimensions, rows, columns) if it looks at shapes.

    Args:
        rule: The rule.
        trainable: Names of the constants to train, ``"lr"`` among them if wanted. None: ``lr`` and all constants that
            the update depends on, but for floors such as eps.

    Raises:
        UnknownNameError: a name is not a constant of the rule; the message suggests the nearest.
    """

    def __init__(self, rule: Rule, trainable: Sequence[str] | None = None) -> None:
        super().__init__()
        self.name = rule.name
        self.initial_rule = rule
        program = rule.program.live
        self._plan = TorchProgram(program)
        self._looks_at_shapes = bool(program.needs_shapes or program.matrix_operators)
        self.coordinatewise = not (program.reduces or self._looks_at_shapes)
        self.needs_total_steps = program.needs_total_steps
        self.state_cost = program.buffers
        read = names(rule.update) | set(lags(rule.update))
        self.features = tuple(name for name in FEATURES if name in read) or ("g",)
        roles = {LR: Role.POSITIVE if rule.lr > 0 else Role.WEIGHT, **constant_roles(program)}
        if trainable is None:
            trainable = [name for name, role in roles.items() if role is not Role.FLOOR]
        self.trainable = tuple(trainable)
        self._roles = {name: lookup("constant", name, roles) for name in self.trainable}
        self._initial = {LR: rule.lr, **rule.constants}
        self.coordinates = nn.Parameter(torch.zeros(len(self.trainable), dtype=torch.float64))

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        """The state before step 1; see `LearnedOptimizer.init_state`.

        Args:
            w: The optimizee's parameters, [N].
            sizes: Shapes of the parameter tensors, or their lengths, which makes vectors of them.
            total_steps: Number of steps of the whole run; needed by a rule that reads ``T`` or ``progress``.

        Raises:
            OptionError: the rule needs ``total_steps``, and there are none, or fewer than 1.
        """
        program = self._plan.program
        state = {"t": torch.zeros((), dtype=torch.float64)}
        if program.needs_total_steps:
            if total_steps is None or total_steps < 1:
                raise OptionError(
                    f'rule "{self.name}" reads the horizon (T or progress): give total_steps, 1 or more, '
                    f"not {total_steps}"
                )
            state[T] = torch.tensor(float(total_steps), dtype=torch.float64)
        if self._looks_at_shapes:
            state[SIZES] = torch.tensor([(len(shape), *matrix_shape(shape)) for shape in _shapes(w, sizes)])
        elif program.reduces:
            state[SIZES] = torch.tensor(lengths(w, sizes))
        memory = initial_memory(program, w, flat=True)
        return state | {f"rule.{key}": value for key, value in memory.items()}

    def bind(self) -> UpdateFunction:
        return self._bound(self.values())

    def bind_stacked(self, parameters: Mapping[str, Tensor]) -> UpdateFunction:
        """As `LearnedOptimizer.bind_stacked`, without a vmap: each constant is a column [K, 1] beside values [K, N].

        The rows' episodes must be in step, as those of a population are: T and the shapes are read off the first row.
        """
        rows = parameters.get("coordinates")
        if rows is None:
            return super().bind_stacked(parameters)
        columns = self._values_at(rows[..., None].unbind(1))
        bound: dict[torch.dtype, UpdateFunction] = {}

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            if w.dtype not in bound:
                bound[w.dtype] = self._bound({name: value.to(w.dtype) for name, value in columns.items()})
            shared = {key: state[key] for key in ("t", T, SIZES) if key in state}
            lone = {key: value for key, value in state.items() if key not in shared and value.dim() == 1}
            inside = {key: value[..., None] for key, value in lone.items()}
            found, new = bound[w.dtype](g, w, {**state, **{key: value[0] for key, value in shared.items()}, **inside})
            new = {key: value.squeeze(-1) if key in lone else value for key, value in new.items()}
            return found, new | {key: value.expand_as(shared[key]) for key, value in new.items() if key in shared}

        return update

    def _bound(self, constants: dict[str, Tensor]) -> UpdateFunction:
        lr = constants.pop(LR, self.initial_rule.lr)
        step = self._plan.bind(constants)

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            t = state["t"] + 1
            memory: Memory = {key[5:]: value for key, value in state.items() if key.startswith("rule.")}
            known, reduce = self._known(t, w, state)
            outputs, memory = step({"g": g, "w": w, "t": t, **known}, memory, reduce)
            new = {"t": t, **{f"rule.{key}": value for key, value in memory.items()}}
            new |= {key: state[key] for key in (T, SIZES) if key in state}
            return (lr * outputs["update"]).to(g.dtype).expand_as(g), new

        return update

    def _known(self, t: Tensor, w: Tensor, state: State) -> tuple[dict[str, Tensor], Reduce]:
        """Inputs besides g, w and t, and how tensors are reduced."""
        program = self._plan.program
        known: dict[str, Tensor] = {}
        if program.needs_total_steps:
            known |= horizon_inputs(t, state[T])
        if not self._looks_at_shapes:
            return known, segment_reduce(state[SIZES].tolist()) if program.reduces else reduce_whole
        shapes = [_canonical(*row) for row in state[SIZES].tolist()]
        read = [name for name in SHAPE_INPUTS if name in program.reads]
        return known | segment_shapes(shapes, w.dtype, w.device, read), segment_reduce(shapes)

    def values(self) -> dict[str, Tensor]:
        """The trainable constants as they are now: scalars in float64, attached to ``coordinates``."""
        return self._values_at(self.coordinates.unbind())

    def _values_at(self, coordinates: Sequence[Tensor]) -> dict[str, Tensor]:
        """The trainable constants at coordinates of one shape, one a constant."""
        return {
            name: from_coordinate(self._initial[name], self._roles[name], x)
            for name, x in zip(self.trainable, coordinates, strict=True)
        }

    @torch.no_grad()
    def rule(self) -> Rule:
        """The rule with the constants as they are now; one that has not been moved keeps its value exactly."""
        moved = {
            name: float(value)
            for (name, value), x in zip(self.values().items(), self.coordinates, strict=True)
            if float(x) != 0
        }
        lr = moved.pop(LR, self.initial_rule.lr)
        rule = self.initial_rule.with_constants(**moved)
        return Rule(rule.name, rule.program, lr, rule.provenance, rule.results)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "rule": self.initial_rule.to_json(), "trainable": list(self.trainable)}


def _shapes(w: Tensor, sizes: Sizes | None) -> list[Sequence[int]]:
    return [(w.numel(),)] if sizes is None else [(size,) if isinstance(size, int) else size for size in sizes]


def _canonical(dimensions: int, rows: int, columns: int) -> tuple[int, ...]:
    """A shape of so many dimensions that is the same matrix."""
    return (rows, columns, *[1] * (dimensions - 2)) if dimensions > 1 else (rows,) * dimensions
