"""Expressions as a straight line of torch calls, for running recurrences over many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from closedform.distillation.problem._candidate import lag_name
from closedform.lang import OPERATORS, Apply, Expr, Lag, Registers, Symbol, lags, substitute

BLOCK = 50
"""Steps for which what does not depend on the past is computed at once."""


class Tape:
    """Some expressions, walked once: equal sub-expressions share a register.

    Args:
        exprs: Without reductions; a lag reads the name ``x_k``.
    """

    def __init__(self, exprs: Sequence[Expr]) -> None:
        registers = Registers()
        self._outputs = [registers.place(expr, lambda node: registers.load("name", _read(node))) for expr in exprs]
        self._size = registers.size
        self._names, self._numbers = registers.loaded("name"), registers.loaded("number")
        self._calls = [(one.place, OPERATORS[one.op].torch, one.args) for one in registers.operations]

    def run(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The expressions' values, given their names' values; these may be of any shapes that broadcast together."""
        registers: list[Tensor] = [_NOTHING] * self._size
        for name, register in self._names.items():
            registers[register] = values[name]
        for number, register in self._numbers.items():
            registers[register] = torch.tensor(number, dtype=torch.float64)
        for register, function, args in self._calls:
            registers[register] = function(*[registers[arg] for arg in args])
        return [registers[output] for output in self._outputs]


def _read(node: Symbol | Lag) -> str:
    """The name that a leaf's values go by."""
    return lag_name(node) if isinstance(node, Lag) else node.name


_NOTHING = torch.empty(0)


def run_recurrences(
    recurrences: Mapping[str, Expr], signals: Mapping[str, Tensor], constants: Mapping[str, Tensor], batch: int = 1
) -> dict[str, Tensor]:
    """Run coupled states over whole sequences, from 0, for several sets of constants at once.

    What does not depend on the past is computed for many steps at a time.

    Args:
        recurrences: Name -> value, in order. A state reads its own and others' past as ``prev(s)``; a name that
            reads no past may be read by those after it.
        signals: Name -> [T, N].
        constants: Name -> [batch, 1].
        batch: Sets of constants.

    Returns:
        State -> [T, batch, N], its values after each step.
    """
    states, now = split_recurrences(recurrences)
    first = next(iter(signals.values()))
    steps, count = first.shape
    ahead, each = Tape(list(now.values())), Tape(list(states.values()))
    past = {f"{name}_1": first.new_zeros(batch, count) for name in states}
    history = {name: first.new_empty(steps, batch, count) for name in states}
    for start in range(0, steps, BLOCK):
        block = {name: values[start : start + BLOCK, None] for name, values in signals.items()}
        known = dict(zip(now, ahead.run({**block, **constants}), strict=True))
        sequences = {name: value for name, value in {**block, **known}.items() if value.dim() == 3}
        fixed = {**constants, **{name: value for name, value in known.items() if value.dim() < 3}}
        for step in range(len(next(iter(block.values())))):
            here = {name: values[step] for name, values in sequences.items()}
            new = each.run({**here, **fixed, **past})
            for name, value in zip(states, new, strict=True):
                history[name][start + step] = value
            past = {f"{name}_1": history[name][start + step] for name in states}
    return history


def split_recurrences(recurrences: Mapping[str, Expr]) -> tuple[dict[str, Expr], dict[str, Expr]]:
    """Recurrences as those of states, and what they read that does not depend on the past.

    Returns:
        State -> next value, over signals, constants, ``prev`` of states and the second's names; and name -> value, over
        signals and constants alone.
    """
    states: dict[str, Expr] = {}
    known: dict[str, Expr] = {}
    now: dict[str, Expr] = {}
    for name, expr in recurrences.items():
        expr = substitute(expr, known)
        if any(state in recurrences for state in lags(expr)):
            states[name] = _hoisted(expr, recurrences, now)
        else:
            known[name] = expr
    return states, now


def _hoisted(expr: Expr, recurrences: Mapping[str, Expr], now: dict[str, Expr]) -> Expr:
    if not isinstance(expr, Apply):
        return expr
    if not any(state in recurrences for state in lags(expr)):
        name = next((name for name, other in now.items() if other == expr), f"cf_now_{len(now)}")
        now[name] = expr
        return Symbol(name)
    return Apply(expr.op, tuple(_hoisted(arg, recurrences, now) for arg in expr.args))
