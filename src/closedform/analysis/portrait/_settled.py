"""Where an optimizer comes to rest under a constant gradient, and what happens around there.

At such a fixed point of its state, the eigenvalues of the state's Jacobian are the modes of its memory: one of size b
fades by e in -1/ln(b) steps, and one of angle a turns in 2 pi/a (Maheswaranathan et al. 2021, Reverse engineering
learned optimizers reveals known and novel mechanisms, arXiv 2011.02159). The step is held at a late one, where bias
corrections are over, and progress at a half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State, fresh_state

LATE = 10**6
"""The step at which time is held; half of all."""
_PLAIN, _NEWTON = 200, 30
"""Steps as they come, and of Newton's method."""
_AT_REST = 1e-9
_FOREVER = 1e-9
"""1 - |eigenvalue| below which a mode never fades."""
_STILL = 1e-12
"""|eigenvalue| that counts as zero, and angle that does."""
_H = 1e-6


@dataclass(frozen=True)
class TimeScale:
    """A mode of an optimizer's memory.

    Attributes:
        steps: In which it fades by e; infinite if it never does.
        period: Steps of an oscillation; infinite if there is none.
    """

    steps: float
    period: float


@dataclass(frozen=True)
class Settled:
    """An optimizer at rest under constant gradients.

    Attributes:
        gradients: |g|, ascending.
        updates: -u there: how far it moves against the gradient a step.
        rates: -du/dg there, the state as it is: its effective learning rate.
        time_scales: Modes at the middle gradient, the slowest first; those that fade at once are left out.
        adaptation: Slope of log rate over log |g|: 0 none, -1 full normalisation; NaN if the rate is zero.
        power: Slope of log |u| over log |g|: 1 as gradient descent, 0 steps of one size.
        at_rest: Whether a fixed point was found for every gradient.
    """

    gradients: tuple[float, ...]
    updates: tuple[float, ...]
    rates: tuple[float, ...]
    time_scales: tuple[TimeScale, ...]
    adaptation: float
    power: float
    at_rest: bool


def settled(optimizer: LearnedOptimizer, unit: float = 1.0) -> Settled:
    """Fixed points over gradients from a hundredth of the unit to a hundred times it.

    Args:
        optimizer: Coordinatewise, in float64.
        unit: A typical gradient.
    """
    sizes = unit * torch.logspace(-2, 2, 9, dtype=torch.float64)
    held = _Held(optimizer, sizes)
    vector, rest = held.fixed_point()
    jacobian = held.jacobian(vector)
    middle = len(sizes) // 2
    updates, rates = -held.update(vector, sizes), -held.slope(vector)
    return Settled(
        tuple(sizes.tolist()),
        tuple(updates.tolist()),
        tuple(rates.tolist()),
        time_scales(jacobian[middle].numpy()),
        _log_slope(sizes, rates),
        _log_slope(sizes, updates),
        rest,
    )


def time_scales(jacobian: np.ndarray) -> tuple[TimeScale, ...]:
    """Modes of a linear map, the slowest first; one of each conjugate pair."""
    if not jacobian.size or not np.isfinite(jacobian).all():
        return ()
    found = []
    for value in np.linalg.eigvals(jacobian):
        size, angle = abs(value), abs(float(np.angle(value)))
        if size > _STILL and value.imag >= -_STILL:
            steps = math.inf if size >= 1 - _FOREVER else -1 / math.log(size)
            found.append(TimeScale(steps, 2 * math.pi / angle if angle > _STILL else math.inf))
    return tuple(sorted(found, key=lambda mode: -mode.steps))


def _log_slope(x: Tensor, y: Tensor) -> float:
    good = torch.isfinite(y) & (y.abs() > 0)
    if int(good.sum()) < 3:
        return math.nan
    return float(np.polyfit(np.log(x[good].numpy()), np.log(y[good].abs().numpy()), 1)[0])


class _Held:
    """The map of a state to the next one, time and gradient held: states as [D, N]."""

    def __init__(self, optimizer: LearnedOptimizer, gradients: Tensor) -> None:
        self._bound = optimizer.bind()
        self.gradients = gradients
        self.weights = torch.zeros_like(gradients)
        self._start = fresh_state(optimizer, self.weights, None, 2 * LATE)
        own = {key: value for key, value in self._start.items() if value.dim() and len(gradients) == value.shape[-1]}
        self._shapes = {key: value.shape[:-1] for key, value in own.items()}

    @property
    def size(self) -> int:
        """D."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    def state(self, vector: Tensor) -> State:
        parts = vector.split([math.prod(shape) for shape in self._shapes.values()])
        own = {key: part.reshape(*shape, -1) for part, (key, shape) in zip(parts, self._shapes.items(), strict=True)}
        return {**self._start, **own, "t": torch.tensor(LATE - 1.0, dtype=torch.float64)}

    def vector(self, state: State) -> Tensor:
        if not self._shapes:
            return torch.zeros(0, len(self.gradients), dtype=torch.float64)
        return torch.cat([state[key].reshape(-1, state[key].shape[-1]) for key in self._shapes]).to(torch.float64)

    @torch.no_grad()
    def next(self, vector: Tensor, gradients: Tensor) -> Tensor:
        return self.vector(self._bound(gradients, torch.zeros_like(gradients), self.state(vector))[1])

    @torch.no_grad()
    def update(self, vector: Tensor, gradients: Tensor) -> Tensor:
        return self._bound(gradients, torch.zeros_like(gradients), self.state(vector))[0].to(torch.float64)

    def slope(self, vector: Tensor) -> Tensor:
        """du/dg, the old state as it is: a central difference."""
        h = _H * self.gradients
        return (self.update(vector, self.gradients + h) - self.update(vector, self.gradients - h)) / (2 * h)

    def jacobian(self, vector: Tensor) -> Tensor:
        """[N, D, D], by central differences along each entry, all side by side."""
        d, n = vector.shape
        h = _H * vector.abs().clamp(min=1e-3 * float(vector.abs().max()) if d else 1.0).clamp(min=1e-12)
        around = vector[:, None, :].expand(d, d, n)
        step = torch.eye(d, dtype=torch.float64)[:, :, None] * h[:, None, :]
        gradients = self.gradients.repeat(d)
        up, down = (self.next((around + sign * step).reshape(d, d * n), gradients) for sign in (1, -1))
        return ((up - down).reshape(d, d, n) / (2 * h)).permute(2, 0, 1)

    def fixed_point(self) -> tuple[Tensor, bool]:
        """The state at rest, [D, N], and whether it is: some steps as they come, then Newton's."""
        vector = self.vector(self._start)
        for _ in range(_PLAIN):
            vector = self.next(vector, self.gradients)
        for _ in range(_NEWTON):
            left = self.next(vector, self.gradients) - vector
            if not vector.numel() or _small(left, vector, _AT_REST):
                return vector, True
            matrix = torch.eye(len(vector), dtype=torch.float64) - self.jacobian(vector)
            if not bool(torch.isfinite(matrix).all()):
                return vector, False
            solved = torch.linalg.lstsq(matrix, left.T[:, :, None], driver="gelsd").solution[:, :, 0].T
            tried = vector + solved
            after = self.next(tried, self.gradients) - tried
            better = after.norm(dim=0) < left.norm(dim=0)
            vector = torch.where(better, tried, vector + left)
        return vector, _small(self.next(vector, self.gradients) - vector, vector, 1e-6)


def _small(left: Tensor, vector: Tensor, share: float) -> bool:
    """Whether what is left is a small share of each coordinate's largest entry."""
    return bool((left.abs() <= share * vector.abs().amax(0)).all())


def names_of(scales: Sequence[TimeScale]) -> str:
    """Modes in words: ``9.5, 999.5 steps``."""
    told = [
        ("never fades" if math.isinf(s.steps) else f"{s.steps:.3g}")
        + ("" if math.isinf(s.period) or (s.period <= 2 + 1e-9 and s.steps < 1) else f" (turning every {s.period:.3g})")
        for s in scales
    ]
    return ", ".join(told)
