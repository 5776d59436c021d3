"""Expressions as a straight line of torch calls, for running recurrences over many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from closedform.lang import OPERATORS, Apply, Expr, Lag, Number, Symbol


class Tape:
    """Some expressions, walked once: equal sub-expressions share a register.

    Args:
        exprs: Without reductions; a lag reads the name ``x_k``.
    """

    def __init__(self, exprs: Sequence[Expr]) -> None:
        self._registers: dict[Expr, int] = {}
        self._names: list[tuple[int, str]] = []
        self._numbers: list[tuple[int, float]] = []
        self._calls: list[tuple[int, Callable[..., Tensor], tuple[int, ...]]] = []
        self._outputs = [self._place(expr) for expr in exprs]

    def _place(self, expr: Expr) -> int:
        if expr in self._registers:
            return self._registers[expr]
        args = tuple(self._place(arg) for arg in expr.args) if isinstance(expr, Apply) else ()
        register = self._registers[expr] = len(self._registers)
        if isinstance(expr, Apply):
            self._calls.append((register, OPERATORS[expr.op].torch, args))
        elif isinstance(expr, Number):
            self._numbers.append((register, expr.value))
        elif isinstance(expr, Lag):
            self._names.append((register, f"{expr.name}_{expr.steps}"))
        elif isinstance(expr, Symbol):
            self._names.append((register, expr.name))
        return register

    def run(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The expressions' values, given their names' values; these may be of any shapes that broadcast together."""
        registers: list[Tensor] = [_NOTHING] * len(self._registers)
        for register, name in self._names:
            registers[register] = values[name]
        for register, number in self._numbers:
            registers[register] = torch.tensor(number, dtype=torch.float64)
        for register, function, args in self._calls:
            registers[register] = function(*[registers[arg] for arg in args])
        return [registers[output] for output in self._outputs]


_NOTHING = torch.empty(0)


def run_recurrences(
    recurrences: Mapping[str, Expr], signals: Mapping[str, Tensor], constants: Mapping[str, Tensor], batch: int = 1
) -> dict[str, Tensor]:
    """Run coupled states over whole sequences, from 0, for several sets of constants at once.

    Args:
        recurrences: State -> its next value, over signals now and the states' old values.
        signals: Name -> [T, N].
        constants: Name -> [batch, 1].
        batch: Sets of constants.

    Returns:
        State -> [T, batch, N], its values after each step.
    """
    first = next(iter(signals.values()))
    steps, count = first.shape
    tape = Tape(list(recurrences.values()))
    states = {name: first.new_zeros(batch, count) for name in recurrences}
    history = {name: first.new_empty(steps, batch, count) for name in recurrences}
    for step in range(steps):
        now = {name: values[step] for name, values in signals.items()}
        new = tape.run({**now, **constants, **states})
        states = {name: value.expand(batch, count) for name, value in zip(recurrences, new, strict=True)}
        for name, value in states.items():
            history[name][step] = value
    return history
