"""A rule's constants refitted to recorded updates: Levenberg-Marquardt over whole episodes, run side by side.

The rule is run over the recorded gradients and parameters, from step 1 on, with several values of its constants at
once: those as they are and one moved a little for each, which gives the derivatives. The learning rate is a factor of
the update, and found by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.analysis._replay import replayed
from closedform.lang import Apply, walk
from closedform.learned_optimizers import Role, SymbolicOptimizer, constant_roles
from closedform.rules import Rule

_H = 1e-4
_DAMPINGS = (0.0, 1e-4, 1e-2, 1.0, 100.0)
_JUMPS = ("sign", "greater")
"""Operators that leave no derivatives to follow: constants of rules with them are looked for on grids."""
_GRIDS, _POINTS, _SPAN = 7, 9, 4.0
"""Grids, each a third as wide; values of each constant; how far the first one reaches in coordinates."""
_FARTHEST = 3.0
"""Coordinates that a step may move at most; and that constants may move in all, four times that."""
STARTS = (0.0, -1.5, -3.0)
"""Where decays begin, in their coordinates: as in the library, and with shorter memories."""


@dataclass(frozen=True)
class Cells:
    """Recorded gradients, parameters and updates, [T, N] each, the horizon, and what updates were multiplied by, [N].

    Updates count in the size that they have on their task, so that of several tasks none outweighs the others.
    """

    gradients: Tensor
    weights: Tensor
    updates: Tensor
    total: int
    scale: Tensor

    def part(self, chosen: Tensor, steps: int | None = None) -> Cells:
        """Some coordinates, and the first steps."""
        gradients, weights, updates = (v[:steps, chosen] for v in (self.gradients, self.weights, self.updates))
        return Cells(gradients, weights, updates, self.total, self.scale[chosen])


class Refit:
    """A rule whose constants are looked for."""

    def __init__(self, rule: Rule) -> None:
        program = rule.program.live
        roles = constant_roles(program)
        names = [name for name, role in roles.items() if role is not Role.FLOOR]
        self.rule, self.optimizer = rule, SymbolicOptimizer(rule, names)
        self.decays = torch.tensor([float(roles[name] is Role.DECAY) for name in names], dtype=torch.float64)
        expressions = (*program.state.values(), *program.where.values(), *program.outputs.values())
        self.jumps = any(isinstance(node, Apply) and node.op in _JUMPS for e in expressions for node in walk(e))

    @torch.no_grad()
    def predicted(self, points: Tensor, cells: Cells) -> Tensor:
        """Updates before the learning rate is fitted, [K, T, N], at points [K, C]."""
        count = len(points)
        if not points.shape[1]:  # nothing to fit but the learning rate
            return answers(self.rule, cells).expand(count, -1, -1)
        start = self.optimizer.init_state(cells.weights[0], None, cells.total)
        state = {key: value.expand(count, *value.shape) for key, value in start.items()}
        read = (values[:, None].expand(-1, count, -1) for values in (cells.gradients, cells.weights))
        found, _ = replayed(self.optimizer.bind_stacked({"coordinates": points}), state, *read)
        return found.transpose(0, 1) * cells.scale

    def errors(self, points: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """1 - R^2 at points, [K], and the factors by which updates are multiplied, [K]."""
        return scored(self.predicted(points, cells), cells.updates)

    def starts(self) -> Tensor:
        """Where to begin, [S, C]."""
        if not bool(self.decays.any()):
            return torch.zeros(1, len(self.decays), dtype=torch.float64)
        return torch.stack([shift * self.decays for shift in STARTS])

    def fitted(self, start: Tensor, cells: Cells, rounds: int = 12) -> tuple[Tensor, float]:
        """The point that fits best, [C], and its factor."""
        return self._on_grids(start, cells) if self.jumps else self._by_slopes(start, cells, rounds)

    def _on_grids(self, start: Tensor, cells: Cells) -> tuple[Tensor, float]:
        """Two constants at a time, in turn, on grids that get finer."""
        point, wide = start, _SPAN
        free = range(len(start))
        pairs = [(a, b) for a in free for b in free if a < b] or [(a, a) for a in free]
        for _ in range(_GRIDS if len(start) else 0):
            line = torch.linspace(-wide, wide, _POINTS, dtype=torch.float64)
            for a, b in pairs:
                moves = torch.cartesian_prod(line, line) if a != b else line[:, None]
                tried = point.repeat(len(moves), 1)
                tried[:, [a, b] if a != b else [a]] += moves
                errors = torch.nan_to_num(self.errors(tried, cells)[0], nan=torch.inf)
                point = tried[int(errors.argmin())]
            wide /= 3
        return point, float(self.errors(point[None], cells)[1][0])

    def _by_slopes(self, start: Tensor, cells: Cells, rounds: int) -> tuple[Tensor, float]:
        point, damping = start, 1e-2
        error, factor = (float(value[0]) for value in self.errors(point[None], cells))
        for _ in range(rounds if len(point) else 0):
            moves = torch.cat([point[None], point + _H * torch.eye(len(point), dtype=torch.float64)])
            found = self.predicted(moves, cells)
            left = (cells.updates - factor * found[0]).flatten()
            matrix = torch.stack(
                [found[0].flatten(), *(factor * (moved - found[0]).flatten() / _H for moved in found[1:])]
            )
            if not bool(torch.isfinite(matrix).all()):
                break
            tried = torch.stack([point + _step(matrix, left, damping * d) for d in _DAMPINGS])
            tried = tried.clamp(-4 * _FARTHEST, 4 * _FARTHEST)
            errors, factors = self.errors(tried, cells)
            best = int(torch.nan_to_num(errors, nan=torch.inf).argmin())
            if not float(errors[best]) < error:
                damping *= 30
                if damping > 1e6:
                    break
                continue
            gain, damping = 1 - float(errors[best]) / error, max(damping * (_DAMPINGS[best] or 0.1), 1e-10)
            point, error, factor = tried[best], float(errors[best]), float(factors[best])
            if gain < 1e-4 or error < 1e-13:
                break
        return point, factor

    def made(self, point: Tensor, factor: float, room: float = 1e-3) -> Rule:
        """The rule with its constants there, each of the fewest digits within a share of it, as `rounded` says."""
        trained = SymbolicOptimizer(self.rule, self.optimizer.trainable)
        with torch.no_grad():
            trained.coordinates.copy_(point)
        rule = trained.rule()
        decays = dict(zip(self.optimizer.trainable, self.decays.tolist(), strict=True))
        constants = {name: rounded(rule.constants[name], bool(decay), room) for name, decay in decays.items()}
        rule = rule.with_constants(**constants)
        return Rule(rule.name, rule.program, rounded(self.rule.lr * factor, False, room), rule.provenance)


def answers(rule: Rule, cells: Cells) -> Tensor:
    """A rule's updates, [T, N], over recorded gradients and parameters, in the scale of the recorded ones."""
    optimizer = SymbolicOptimizer(rule, ())
    state = optimizer.init_state(cells.weights[0], None, cells.total)
    return replayed(optimizer.bind(), state, cells.gradients, cells.weights)[0] * cells.scale


def scored(predicted: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
    """1 - R^2, [K], of predictions [K, T, N] times the factors that fit best, [K]."""
    flat, truth = predicted.flatten(1), updates.flatten()
    size = flat.square().sum(1)
    factor = torch.where(size > 0, flat @ truth / size.clamp(min=1e-300), 0.0).clamp(min=0.0)
    left = (truth - factor[:, None] * flat).square().sum(1)
    return left / (truth - truth.mean()).square().sum().clamp(min=1e-300), factor


def rounded(value: float, decay: bool, room: float = 1e-3) -> float:
    """The number of fewest digits within a share of the number; of a decay b, within a share of 1 - b."""
    near = room * (1 - value if decay else abs(value))
    found = (float(f"{value:.{digits}g}") for digits in range(1, 12))
    return next((short for short in found if room and abs(short - value) <= near), value)


def _step(matrix: Tensor, left: Tensor, damping: float) -> Tensor:
    """A damped Gauss-Newton step of the constants; the first row of the matrix is the factor's."""
    normal = matrix @ matrix.T
    normal = normal + torch.diag(damping * normal.diagonal() + 1e-14 * normal.diagonal().max())
    step = torch.linalg.lstsq(normal, (matrix @ left)[:, None], driver="gelsd").solution[1:, 0]
    return step * min(1.0, _FARTHEST / max(float(step.abs().max()), 1e-12))
