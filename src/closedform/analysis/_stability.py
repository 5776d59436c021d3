"""The largest learning rate at which a rule does not blow up on a quadratic of curvature 1: loss w^2/2, gradient w.

A rule that is linear in the gradient and in its states is a matrix there, w and the states of one step to those of the
next, and stable while no eigenvalue is larger than 1: gradient descent up to 2, momentum up to 2 + 2*beta. Others are
run, many rates side by side, from |w| = 1: stable is a rate with which w is never further out than it began, if every
smaller one is too. For a rule whose steps have one size whatever the gradient, that is a share of |w|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from closedform.analysis._probe import side_by_side, step_all
from closedform.lang import Apply, Expr, Lag, Number, Program, Symbol, folded, initial_memory

STEPS = 300
"""Steps of a run, and T."""
LEAST, MOST = 1e-6, 1e6
"""Rates that are tried."""
RATES, PASSES = 64, 3
"""Rates side by side, and how often the last bracket is looked into."""
ROUNDING = 1e-9

Weights = dict[tuple[str, int], float]
"""What a value is a sum of: (name, how many steps ago) -> weight."""


def linear_limit(program: Program) -> float | None:
    """The largest stable rate of a rule that is linear with constant weights, by eigenvalues; None for other rules."""
    radius = linear_radius(program)
    return None if radius is None else _last_stable(lambda rate: radius(rate) <= 1 + ROUNDING)


def linear_radius(program: Program) -> Callable[..., float] | None:
    """(learning rate, curvature = 1) to the spectral radius of a linear rule there; None for other rules."""
    program = folded(program)
    if program.init or any(name in program.histories for name in program.where):
        return None
    state = {name: weights_of(expr, program, old=True) for name, expr in program.state.items()}
    update = weights_of(program.outputs["update"], program, old=False)
    if update is None or any(value is None for value in state.values()):
        return None
    keys = {key for value in (update, *state.values()) for key in value or ()}
    if any(past > 1 or (past and name in ("g", "w")) for name, past in keys):
        return None
    recurrences = {name: value for name, value in state.items() if value is not None}
    return lambda rate, curvature=1.0: _radius(recurrences, update, rate, curvature)


def weights_of(expr: Expr, program: Program, old: bool) -> Weights | None:
    """An expression as a weighted sum of g, w and states, named values written out; None if it is none."""
    if isinstance(expr, Number):
        return {} if expr.value == 0 else None
    if isinstance(expr, Symbol):
        if expr.name in program.where:
            return weights_of(program.where[expr.name], program, old)
        if expr.name in program.state:
            return {(expr.name, int(old)): 1.0}
        return {(expr.name, 0): 1.0} if expr.name in ("g", "w") else None
    if isinstance(expr, Lag):
        return {(expr.name, expr.steps): 1.0}
    parts = [weights_of(arg, program, old) for arg in expr.args]
    if expr.op in ("add", "sub", "neg"):
        signs = {"add": (1, 1), "sub": (1, -1), "neg": (-1,)}[expr.op]
        return reduce(_sum, (_times(sign, part) for sign, part in zip(signs, parts, strict=True)))
    return _product(expr, parts)


def _product(expr: Apply, parts: list[Weights | None]) -> Weights | None:
    numbers = [arg.value if isinstance(arg, Number) else None for arg in expr.args]
    if expr.op == "mul" and numbers[0] is not None:
        return _times(numbers[0], parts[1])
    if expr.op == "mul" and numbers[1] is not None:
        return _times(numbers[1], parts[0])
    return _times(1 / numbers[1], parts[0]) if expr.op == "div" and numbers[1] else None


def _times(factor: float, x: Weights | None) -> Weights | None:
    return None if x is None else {key: factor * weight for key, weight in x.items()}


def _sum(x: Weights | None, y: Weights | None) -> Weights | None:
    if x is None or y is None:
        return None
    return {key: x.get(key, 0.0) + y.get(key, 0.0) for key in {*x, *y}}


def _radius(state: Mapping[str, Weights], update: Weights, rate: float, curvature: float) -> float:
    """Spectral radius of (w, states) of one step to those of the next; the gradient is curvature x w."""
    of_w = {"g": curvature, "w": 1.0}
    names = list(state)
    size = 1 + len(names)
    old = np.zeros((len(names), size))  # new states over w and old states
    for row, name in enumerate(names):
        for (source, _), weight in state[name].items():
            old[row, 0 if source in of_w else 1 + names.index(source)] += weight * of_w.get(source, 1.0)
    moved = np.zeros(size)
    moved[0] = 1.0
    for (source, past), weight in update.items():
        if source in of_w:
            moved[0] += rate * weight * of_w[source]
        elif past:
            moved[1 + names.index(source)] += rate * weight
        else:
            moved += rate * weight * old[names.index(source)]
    return float(np.abs(np.linalg.eigvals(np.vstack([moved, old]))).max())


def _last_stable(stable: Callable[[float], bool]) -> float:
    """The end of the interval of stable rates that begins at the least; 0 if there is none, infinite if it has none."""
    grid = np.geomspace(LEAST, MOST, 400)
    first = next((k for k, rate in enumerate(grid) if not stable(float(rate))), None)
    if first is None or first == 0:
        return math.inf if first is None else 0.0
    low, high = float(grid[first - 1]), float(grid[first])
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def limit_by_runs(program: Program) -> float:
    """The largest rate by runs; infinite if it is above all that were tried, 0 if below."""
    program = program.merged
    low, high = LEAST, MOST
    for turn in range(PASSES):
        rates = torch.from_numpy(np.geomspace(low, high, RATES))
        stable = _stays_inside(program, rates)
        first = next((k for k, good in enumerate(stable) if not good), None)
        if first is None or first == 0:
            return 0.0 if first == 0 and turn == 0 else math.inf if first is None and turn == 0 else low
        low, high = float(rates[first - 1]), float(rates[first])
    return low


def _stays_inside(program: Program, rates: Tensor) -> list[bool]:
    shape = (8, 8) if program.reduces else (1,)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start /= torch.linalg.vector_norm(start)
    w = start.expand(len(rates), *shape)
    memory = side_by_side(initial_memory(program, start), len(rates))
    stable = torch.ones(len(rates), dtype=torch.bool)
    for t in range(1, STEPS + 1):
        update, memory = step_all(program, w, w, memory, t, STEPS)
        w = w + rates.reshape(-1, *(1 for _ in shape)) * update
        stable &= torch.linalg.vector_norm(w.flatten(1), dim=1) <= 1 + ROUNDING
    return stable.tolist()
