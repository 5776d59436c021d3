"""Columns of a recording, and the program that computes them.

A column is a signal of a program, now or some steps ago: ``m_tilde``, ``m_tilde_1``. The program (the **source**) is
kept with the recording, so an expression over the columns can always be made into a whole rule, and more columns can
be computed later from the recorded gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._names import unknown_name_message
from closedform.errors import OptionError, UnknownNameError
from closedform.features import FEATURES, feature_program
from closedform.lang import (
    INPUTS,
    OPERATORS,
    Expr,
    Kind,
    Lag,
    Program,
    Symbol,
    horizon_inputs,
    initial_memory,
    reduces,
    step,
    walk,
)

MAX_LAG = 256
"""Steps that a column may look back; the language's own limit."""


@dataclass(frozen=True, order=True)
class Column:
    """One column: the signal ``feature``, ``lag`` steps ago (0 before the start)."""

    feature: str
    lag: int = 0

    @property
    def name(self) -> str:
        """``m_tilde`` for the present value, ``m_tilde_3`` for lag 3."""
        return f"{self.feature}_{self.lag}" if self.lag else self.feature

    @property
    def expr(self) -> Expr:
        """The column as an expression of the rule language."""
        return Lag(self.feature, self.lag) if self.lag else Symbol(self.feature)


def window_columns(features: Iterable[str], window: int) -> tuple[Column, ...]:
    """All features now, then all of them one step ago, and so on up to ``window`` steps ago (paper, windows)."""
    features = tuple(features)
    return tuple(Column(name, lag) for lag in range(window + 1) for name in features)


def column_source(features: Sequence[str], own: Program | None = None) -> Program:
    """The program whose outputs are the named signals.

    Args:
        features: Names of features, or of states and named values of ``own``.
        own: The recorded rule's program, if the optimizer is a rule; its names come first.

    Raises:
        OptionError: no name, the same name twice, a signal that needs whole parameter tensors or is not elementwise, or
            a feature and the rule give different things the same name.
        UnknownNameError: neither a feature nor a signal of the rule.
    """
    if not features or len(set(features)) != len(features):
        raise OptionError(f"features must be one or more different names, not {list(features)}")
    signals = {**own.state, **own.where} if own else {}
    for name in features:
        if name not in signals and name not in FEATURES:
            raise UnknownNameError(unknown_name_message("feature", name, {**FEATURES, **signals}))
    parts = feature_program([name for name in features if name not in signals])
    program = _joined(parts, own, {name: Symbol(name) for name in features}).live
    check_source(program)
    return program


def check_source(program: Program) -> None:
    """Raise OptionError unless every output is an elementwise signal that each coordinate has for itself."""
    for name, expr in program.outputs.items():
        if expr != Symbol(name):
            raise OptionError(f"column {name!r} must be a state, a named value or an input of its program")
    if program.reduces:
        operator = next(name for name in sorted(program.operators) if OPERATORS[name].reduces)
        raise OptionError(f"columns cannot use {operator}(...): only some coordinates of a tensor are recorded")


def own_signals(program: Program) -> tuple[str, ...]:
    """What a rule's recording shows by default: the gradient, then its states and named values that are elementwise."""
    reducing = {name for name, expr in program.where.items() if _reduces(expr, program)}
    names = [name for name in (*program.state, *program.where) if program.kinds[name] is Kind.ELEMENTWISE]
    return ("g", *(name for name in names if name not in reducing))


def run_source(program: Program, gradients: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Run a program over recorded episodes from their first step; the horizon is the length of the recording.

    Args:
        program: Elementwise program.
        gradients: [E, T, C].
        weights: [E, T, C], each parameter's value before the update.

    Returns:
        For each output its values [E, T, C], float64.
    """
    episodes, steps, coordinates = gradients.shape
    g = gradients.to(torch.float64).transpose(0, 1).reshape(steps, -1)
    w = weights.to(torch.float64).transpose(0, 1).reshape(steps, -1)
    memory = initial_memory(program, g.new_zeros(episodes * coordinates))
    values = {name: torch.empty_like(g) for name in program.outputs}
    with torch.no_grad():
        for index in range(steps):
            t = torch.tensor(index + 1.0, dtype=torch.float64)
            inputs = {"g": g[index], "w": w[index], "t": t, **horizon_inputs(t, steps)}
            outputs, memory = step(program, inputs, memory)
            for name, value in outputs.items():
                values[name][index] = value
    shape = (steps, episodes, coordinates)
    return {name: value.reshape(shape).transpose(0, 1).contiguous() for name, value in values.items()}


def lagged(values: Tensor, lag: int) -> Tensor:
    """``values`` [E, T, C], ``lag`` steps ago; 0 before the start."""
    if lag == 0:
        return values
    shifted = torch.zeros_like(values)
    shifted[:, lag:] = values[:, :-lag]
    return shifted


def _joined(first: Program, second: Program | None, outputs: Mapping[str, Expr]) -> Program:
    if second is None:
        return Program(first.constants, first.state, first.where, outputs)
    sections = []
    for section in ("constants", "state", "where"):
        mine, theirs = getattr(first, section), getattr(second, section)
        for name in mine.keys() & theirs.keys():
            if mine[name] != theirs[name]:
                raise OptionError(f'"{name}" means one thing in the rule and another in a feature; record one of them')
        sections.append({**mine, **theirs})
    constants, state, where = sections
    return Program(constants, state, where, outputs)


def _reduces(expr: Expr, program: Program, seen: frozenset[str] = frozenset()) -> bool:
    for node in walk(expr):
        if reduces(node):
            return True
        if isinstance(node, (Symbol, Lag)) and node.name not in INPUTS and node.name not in seen:
            inner = program.state.get(node.name, program.where.get(node.name))
            if inner is not None and _reduces(inner, program, seen | {node.name}):
                return True
    return False
