"""A rule as a learned optimizer: its constants are the meta-parameters.

Meta-tuning is meta-training of this one. What comes out is a rule again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from closedform._names import lookup
from closedform.features import FEATURES
from closedform.lang import OPERATORS, Apply, Memory, initial_memory, lags, names, reduce_whole, walk
from closedform.learned_optimizers._base import SIZES, LearnedOptimizer, Sizes, State, UpdateFunction, lengths
from closedform.learned_optimizers._constants import Role, constant_roles, from_coordinate
from closedform.learned_optimizers._plan import Plan, segment_reduce
from closedform.rules import Rule

LR = "lr"
"""What the rule's learning rate is called among its trainable constants."""


class SymbolicOptimizer(LearnedOptimizer):
    """A rule whose constants, and ``lr``, can be trained.

    The one meta-parameter is ``coordinates`` [C], float64: where each trainable constant stands, 0 being its value in
    the rule given (see ``_constants.py`` for what a coordinate means). The state holds the step ``t``, the rule's
    states as ``rule.m``, ..., and ``sizes`` if the rule reduces over parameter tensors.

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
        self._plan = Plan(program)
        self._reduces = any(
            isinstance(node, Apply) and OPERATORS[node.op].reduces
            for expr in program.expressions()
            for node in walk(expr)
        )
        self.coordinatewise = not self._reduces
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

    def init_state(self, w: Tensor, sizes: Sizes | None = None) -> State:
        state = {"t": torch.zeros((), dtype=torch.float64)}
        if self._reduces:
            state[SIZES] = torch.tensor(lengths(w, sizes))
        memory = initial_memory(self._plan.program, w, flat=True)
        return state | {f"rule.{key}": value for key, value in memory.items()}

    def bind(self) -> UpdateFunction:
        constants = self.values()
        lr = constants.pop(LR, self.initial_rule.lr)
        step = self._plan.bind(constants)

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            t = state["t"] + 1
            memory: Memory = {key[5:]: value for key, value in state.items() if key.startswith("rule.")}
            reduce = segment_reduce(state[SIZES].tolist()) if self._reduces else reduce_whole
            outputs, memory = step({"g": g, "w": w, "t": t}, memory, reduce)
            new = {"t": t, **{f"rule.{key}": value for key, value in memory.items()}}
            if self._reduces:
                new[SIZES] = state[SIZES]
            return (lr * outputs["update"]).to(g.dtype).expand_as(g), new

        return update

    def values(self) -> dict[str, Tensor]:
        """The trainable constants as they are now: scalars in float64, attached to ``coordinates``."""
        return {
            name: from_coordinate(self._initial[name], self._roles[name], x)
            for name, x in zip(self.trainable, self.coordinates.unbind(), strict=True)
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
