"""A design's constants, fitted to recorded updates.

Those inside are fitted by Levenberg-Marquardt, the terms' weights by least squares at every place (variable projection,
Golub & Pereyra 1973).

Decays move in the logarithm of d/(1 - d), powers as they are, other constants in their logarithm. Derivatives are
differences. Constants that turn a sign have none that tell; what remains of the error says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.distillation.designs._design import Design
from closedform.distillation.problem import Episodes
from closedform.lang import Program

_H = 1e-5
_FARTHEST = 2.0
"""How far a constant may move in one step, in its own coordinate."""
_DONE = 1e-15
_GAIN, _LITTLE, _THOROUGH = 1e-3, 1e-6, 60
"""Shares of the error whose gain no longer pays for another step: of a fit, and of one of so many steps, which may lead
through a valley."""
_USUAL = (0.05, 0.9998)
"""Decays outside are at an end of what can be told; a changed design begins elsewhere."""
_LONG, _LINE, _FINEST = 8, 0.5, 1e-5
_DAMPINGS = (0.0, 1e-3, 1e-1, 10.0)


@dataclass(frozen=True)
class Cells:
    """What designs are fitted to.

    Attributes:
        episodes: Gradients and parameters.
        updates: [T, N].
        finite: Which of them count, [T, N].
    """

    episodes: Episodes
    updates: Tensor
    finite: Tensor

    @property
    def target(self) -> Tensor:
        """The updates that count, [M]."""
        return self.updates[self.finite]


@dataclass(frozen=True)
class Fitted:
    """A design with constants.

    Attributes:
        design: The design.
        program: Its terms.
        constants: Those inside.
        weights: Of the terms.
        error: 1 - R^2 about 0 on the cells.
    """

    design: Design
    program: Program
    constants: Mapping[str, float]
    weights: tuple[float, ...]
    error: float


def fitted(design: Design, cells: Cells, start: Mapping[str, float], steps: int) -> Fitted | None:
    """Fit a design from where constants stand; None where it gives nothing finite."""
    program = design.program()
    constants = {name: _begin(name, start.get(name, value), value) for name, value in program.constants.items()}
    fit = _Fit(program, list(constants), cells)
    point = torch.tensor([_coordinate(name, value) for name, value in constants.items()], dtype=torch.float64)
    left, weights = fit.left(point)
    if left is None:
        return None
    damping = 1e-2
    for _ in range(steps if len(point) else 0):
        error = float(left @ left)
        if error < _DONE:
            break
        matrix = fit.slopes(point, left)
        best = min((fit.tried(point, left, matrix, damping * d) for d in _DAMPINGS), key=lambda one: one[0])
        if not best[0] < error:
            damping *= 100
            if damping > 1e6:
                break
            continue
        gain = 1 - best[0] / error
        point, damping = best[1], max(damping * (best[2] or 0.1), 1e-10)
        left, weights = fit.left(point)
        assert left is not None
        if gain < (_GAIN if steps < _THOROUGH else _LITTLE):
            break
    if steps >= _LONG and design.jumps and float(left @ left) > _DONE:
        point = fit.polished(point)
        left, weights = fit.left(point)
        assert left is not None
    return Fitted(design, program, fit.constants(point), tuple(weights.tolist()), float(left @ left))


def _begin(name: str, value: float, usual: float) -> float:
    """Where a constant begins: where it was, but for a decay at its end."""
    return usual if name.startswith("d_") and not _USUAL[0] < value < _USUAL[1] else value


class _Fit:
    def __init__(self, program: Program, names: list[str], cells: Cells) -> None:
        self.program, self.names, self.cells = program, names, cells
        self.y = cells.target
        self.size = float(self.y.norm()) or 1.0

    def constants(self, point: Tensor) -> dict[str, float]:
        return {name: _value(name, x) for name, x in zip(self.names, point.tolist(), strict=True)}

    def left(self, point: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the best weighted sum of the terms leaves of the updates, over their size, [M], and the weights."""
        outputs = self.cells.episodes.run(self.program, self.constants(point))
        table = torch.stack([value[self.cells.finite] for value in outputs.values()], dim=1)
        if not bool(torch.isfinite(table).all()):
            return None, table
        weights = weighted(table, self.y)
        left = (self.y - table @ weights) / self.size
        return (left if bool(torch.isfinite(left).all()) else None), weights

    def slopes(self, point: Tensor, left: Tensor) -> Tensor:
        """Derivatives of what is left, [C, M]."""
        rows = []
        for k in range(len(point)):
            moved = point.clone()
            moved[k] += _H
            there = self.left(moved)[0]
            rows.append(torch.zeros_like(left) if there is None else (there - left) / _H)
        return torch.stack(rows)

    def polished(self, point: Tensor) -> Tensor:
        """Where signs jump, no slope tells: each constant in turn on lines that get finer."""
        best, width = self.error(point), _LINE
        while width > _FINEST:
            for k in range(len(point)):
                for move in (-1.0, -0.5, 0.5, 1.0):
                    there = point.clone()
                    there[k] += move * width
                    error = self.error(there)
                    if error < best:
                        best, point = error, there
            width /= 2
        return point

    def error(self, point: Tensor) -> float:
        found = self.left(point)[0]
        return math.inf if found is None else float(found @ found)

    def tried(self, point: Tensor, left: Tensor, matrix: Tensor, damping: float) -> tuple[float, Tensor, float]:
        """The error after a damped step, where it ends, and the damping."""
        normal = matrix @ matrix.T
        top = max(float(normal.diagonal().max()), 1e-300)
        normal = normal + torch.diag(damping * normal.diagonal() + 1e-14 * top)
        step = -torch.linalg.lstsq(normal, (matrix @ left)[:, None], driver="gelsd").solution[:, 0]
        there = point + step.clamp(-_FARTHEST, _FARTHEST)
        found = self.left(there)[0]
        return (math.inf if found is None else float(found @ found)), there, damping


def weighted(table: Tensor, y: Tensor) -> Tensor:
    """Least squares, [K], of columns [M, K], each in its own size."""
    sizes = table.norm(dim=0).clamp_min(1e-300)
    solution = torch.linalg.lstsq(table / sizes, y[:, None], driver="gelsy").solution[:, 0]
    return solution / sizes


def _coordinate(name: str, value: float) -> float:
    if name.startswith("d_"):
        return math.log(value / (1 - value))
    return value if name.startswith("p") else math.log(value)


def _value(name: str, x: float) -> float:
    if name.startswith("d_"):
        return min(max(1 / (1 + math.exp(-max(min(x, 30.0), -30.0))), 1e-6), 1 - 1e-6)
    return x if name.startswith("p") else math.exp(max(min(x, 50.0), -80.0))
