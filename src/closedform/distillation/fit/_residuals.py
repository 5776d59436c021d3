"""A candidate's constants as the unknowns of a least-squares problem.

Unknowns are steps from where the constants stand, each in units of its size, so all are of order 1. A decay moves in
the logarithm of d/(1 - d). Derivatives are differences, computed for all constants side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from closedform.distillation.problem import (
    BIG,
    Average,
    Candidate,
    Problem,
    Tape,
    constant_name,
    floors,
    lift_constants,
    put_constants,
    run_recurrences,
    with_decays,
)
from closedform.lang import Expr

STEP = 1e-6
"""Difference for derivatives, in units of a constant's size."""
SHORTEST, LONGEST = 0.05, 0.9999
"""Decays that a fit may reach."""
LEAST_FLOOR = 1e-6
"""Share of its size at the start that a floor such as eps keeps at least."""
LARGEST_MOVE = 1.0
"""How far a decay may move in one step, in the logarithm of d/(1 - d)."""
RECURRENT_STEP = 1e-3
"""The same where states are run in single precision."""
SMALLEST = 0.05
"""A constant inside a recurrence moves at least in units of this, so that one near 0 can leave it."""


class Fit:
    """Residuals of a candidate, in standard deviations of the update, as a function of the unknowns.

    Args:
        candidate: Where to start.
        data: The data.
        rows: Indices of the training rows to fit to.

    Attributes:
        size: The number of unknowns: constants of the equation, of its recurrences, and averages' decays.
    """

    def __init__(self, candidate: Candidate, data: Problem, rows: Tensor) -> None:
        self._data = data
        self._rows = rows
        self._wanted = data.train.y[rows]
        self._candidate = candidate.live
        self._columns = {name: values[rows] for name, values in data.train.read(self._candidate.expr).items()}
        exprs: dict[str, Expr] = {}
        self._start: list[float] = []
        for label, expr in {"": self._candidate.expr, **self._candidate.recurrences}.items():
            exprs[label], values = lift_constants(expr, len(self._start))
            self._start += values
        self._expr = exprs.pop("")
        self._recurrences = exprs
        least = SMALLEST if exprs else 0.0
        self._units = [max(abs(value), least) for value in self._start]
        self._floors = [index for index in floors(self._expr) if self._start[index] > 0]
        self._decays = [name for name, average in self._candidate.averages.items() if average.kind != "sum"]
        self._of_constants = slice(0, len(self._start))
        self._of_decays = slice(len(self._start), len(self._start) + len(self._decays))
        self.size = self._of_decays.stop
        self._tape = Tape([self._expr])

    def candidate_at(self, x: np.ndarray) -> Candidate:
        """The candidate with the constants at ``x``, [size]."""
        values = {constant_name(index): value for index, value in enumerate(self._constants(x))}
        recurrences = {name: put_constants(expr, values) for name, expr in self._recurrences.items()}
        expr = put_constants(self._expr, values)
        return replace(self._candidate, expr=expr, averages=self._averages(x), recurrences=recurrences)

    def moved(self, x: np.ndarray, step: np.ndarray) -> np.ndarray:
        """``x - step``, but for bounds.

        No decay is moved too far at once, nor past its bounds, where it would be stuck; and what keeps a denominator
        off 0 stays positive, coming at most half way down at once.
        """
        place = x - step
        place[self._floors] = np.maximum(place[self._floors], x[self._floors] / 2 - (1 - LEAST_FLOOR) / 2)
        near, decays = place[self._of_decays], x[self._of_decays]
        near = np.clip(near, decays - LARGEST_MOVE, decays + LARGEST_MOVE)
        odds = np.array([_odds(self._candidate.averages[name].decay) for name in self._decays])
        place[self._of_decays] = np.clip(near, _odds(SHORTEST) - odds, _odds(LONGEST) - odds)
        return place

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """(prediction - update) / standard deviation at the rows, [N]."""
        return self._residuals([x])[0].numpy()

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals by the unknowns, [N, size]."""
        step = RECURRENT_STEP if self._recurrences else STEP
        values = self._residuals([x, *(x + step * unit for unit in np.eye(self.size))])
        return ((values[1:] - values[0]) / step).T.numpy()

    def _residuals(self, points: list[np.ndarray]) -> Tensor:
        part = self._data.train
        values: dict[str, Tensor] = dict(self._columns)
        table = [self._constants(point) for point in points]
        for index in range(len(self._start)):
            values[constant_name(index)] = torch.tensor([[row[index]] for row in table], dtype=torch.float64)
        averages = [self._averages(point) for point in points]
        for name in self._candidate.averages:
            values[name] = torch.stack([part.average(at_point[name])[self._rows] for at_point in averages])
        values |= self._states(values, len(points))
        (predicted,) = self._tape.run(values)
        difference = (predicted.expand(len(points), len(self._wanted)) - self._wanted) / self._data.scale
        return torch.nan_to_num(difference, BIG, BIG, -BIG).clamp(-BIG, BIG)

    def _states(self, constants: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
        if not self._recurrences:
            return {}
        part = self._data.train
        signals = part.flat_signals(self._recurrences.values())
        fixed = {name: value.to(torch.float32) for name, value in constants.items() if name.startswith("cf_")}
        history = run_recurrences(self._recurrences, signals, fixed, batch)
        return {name: part.pick(values)[:, self._rows].to(torch.float64) for name, values in history.items()}

    def _constants(self, x: np.ndarray) -> list[float]:
        steps = x[self._of_constants].tolist()
        return [value + unit * step for value, unit, step in zip(self._start, self._units, steps, strict=True)]

    def _averages(self, x: np.ndarray) -> dict[str, Average]:
        steps = zip(self._decays, x[self._of_decays].tolist(), strict=True)
        averages = self._candidate.averages
        return with_decays(averages, {name: _moved_decay(averages[name].decay, step) for name, step in steps})


def _odds(decay: float) -> float:
    return math.log(decay / (1 - decay))


def _moved_decay(decay: float, step: float) -> float:
    return decay if step == 0 else 1 / (1 + math.exp(-_odds(decay) - step))
