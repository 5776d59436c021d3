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

from closedform.analysis.portrait._held import PLAIN, Held
from closedform.learned_optimizers import LearnedOptimizer

SIZES, DECADES = 9, 2
"""Gradients that are looked at, of each sign, and decades that they reach below and above the unit."""
_NEWTON, _HALVINGS = 40, 5
_SURE, _AT_REST = 1e-9, 1e-6
"""What may be left of a step, as a share of the state: to end the search, and to have found."""
_FOREVER = 1e-9
"""1 - |eigenvalue| below which a mode never fades."""
_GROWS = 1e-6
"""|eigenvalue| - 1 above which a fixed point is left again."""
_STILL = 1e-9
"""|eigenvalue| that counts as zero."""
_TURNS = 1e-9
"""Angle that counts as none."""
_BENT = 0.3
"""Logarithm by which a curve may leave the power law that it is told as."""


@dataclass(frozen=True)
class TimeScale:
    """A mode of an optimizer's memory.

    Attributes:
        steps: In which it fades by e; infinite if it never does, negative if it grows by e in so many.
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
        adaptation: Slope of log rate over log |g|: 0 none, -1 full normalisation; NaN if the rate is zero, or follows
            no power.
        power: Slope of log |u| over log |g|: 1 as gradient descent, 0 steps of one size; NaN as above.
        at_rest: Whether a fixed point was found for every gradient, of both signs. Where not, the state after some
            hundred steps stands in.
        resting: Share of the gradients for which one was found.
        stable: Whether they are come back to after a small push.
        asymmetry: Largest |u(g) + u(-g)| over |u(g)| where both are at rest: 0 for an odd one; NaN if there are none.
        entries: D, numbers that it remembers a coordinate.
    """

    gradients: tuple[float, ...]
    updates: tuple[float, ...]
    rates: tuple[float, ...]
    time_scales: tuple[TimeScale, ...]
    adaptation: float
    power: float
    at_rest: bool
    resting: float
    stable: bool
    asymmetry: float
    entries: int


def settled(optimizer: LearnedOptimizer, unit: float = 1.0) -> Settled:
    """Fixed points over gradients of both signs, from a hundredth of the unit to a hundred times it.

    Args:
        optimizer: Coordinatewise, in float64.
        unit: A typical gradient.
    """
    sizes = unit * torch.logspace(-DECADES, DECADES, SIZES, dtype=torch.float64)
    held = Held(optimizer, torch.cat([sizes, -sizes]))
    vector, rest = fixed_points(held)
    jacobian = held.slowest(vector)
    moved, slope = held.update(vector, held.gradients), held.slope(vector)
    updates, rates = -moved[:SIZES], -slope[:SIZES]
    both = rest[:SIZES] & rest[SIZES:]
    lopsided = torch.nan_to_num((moved[:SIZES] + moved[SIZES:]).abs() / updates.abs(), nan=0.0)[both]
    return Settled(
        tuple(sizes.tolist()),
        tuple(updates.tolist()),
        tuple(rates.tolist()),
        time_scales(jacobian[SIZES // 2].numpy()),
        _log_slope(sizes, rates),
        _log_slope(sizes, updates),
        bool(rest.all()),
        float(rest.double().mean()),
        _radius(jacobian[rest]) <= 1 + _GROWS,
        float(lopsided.max()) if len(lopsided) else math.nan,
        held.entries,
    )


def fixed_points(held: Held) -> tuple[Tensor, Tensor]:
    """The state at rest of each coordinate, [D, N], and whether it is, [N].

    Some steps with time held, then Newton's; where these do not end, more of both; and at last the state before.
    """
    vector, rest = held.start, torch.zeros(held.start.shape[1], dtype=torch.bool)
    for steps in PLAIN:
        before = vector
        for _ in range(steps):
            before = held.next(before)
        before = torch.where(rest, vector, before)
        vector, rest = _newton(held, before)
        vector = torch.where(rest, vector, before)
        if bool(rest.all()):
            break
    return vector, rest


def _newton(held: Held, vector: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's method on all coordinates side by side: where it ends, and whether that is at rest."""
    for _ in range(_NEWTON):
        left = held.next(vector) - vector
        if bool((_size(held, left, vector) <= _SURE).all()):
            break
        matrix = torch.eye(len(vector), dtype=torch.float64) - held.jacobian(vector)
        if not bool(torch.isfinite(matrix).all()):
            break
        step = torch.linalg.lstsq(matrix, left.T[:, :, None], driver="gelsd").solution[:, :, 0].T
        vector = _nearer(held, vector, step, left)
    return vector, _size(held, held.next(vector) - vector, vector) <= _AT_REST


def _nearer(held: Held, vector: Tensor, step: Tensor, left: Tensor) -> Tensor:
    """The first of a step, half of it, ... that leaves less; where none does, what comes by itself."""
    found, open_ = vector + left, torch.ones(vector.shape[1], dtype=torch.bool)
    scale = held.scale(vector).clamp(min=torch.finfo(torch.float64).tiny)
    size = (left / scale).norm(dim=0)
    for k in range(_HALVINGS):
        tried = vector + step / 2**k
        better = open_ & (((held.next(tried) - tried) / scale).norm(dim=0) < size)
        found, open_ = torch.where(better, tried, found), open_ & ~better
        if not bool(open_.any()):
            break
    return found


def _size(held: Held, left: Tensor, vector: Tensor) -> Tensor:
    """The largest share of an entry's scale that is left, [N]."""
    if not vector.numel():
        return torch.zeros(vector.shape[1], dtype=torch.float64)
    share = left.abs() / held.scale(vector).clamp(min=torch.finfo(torch.float64).tiny)
    return torch.nan_to_num(share, nan=math.inf).amax(0)


def _radius(jacobian: Tensor) -> float:
    """The largest |eigenvalue| over all coordinates; infinite if it cannot be had."""
    if not jacobian.numel():
        return 0.0
    if not bool(torch.isfinite(jacobian).all()):
        return math.inf
    return float(np.abs(np.linalg.eigvals(jacobian.numpy())).max())


def time_scales(jacobian: np.ndarray) -> tuple[TimeScale, ...]:
    """Modes of a linear map, those that grow and then the slowest first; one of each conjugate pair."""
    if not jacobian.size or not np.isfinite(jacobian).all():
        return ()
    found = []
    for value in np.linalg.eigvals(jacobian):
        size, angle = abs(value), abs(float(np.angle(value)))
        if size > _STILL and value.imag >= -_TURNS * size:
            steps = math.inf if abs(size - 1) <= _FOREVER else -1 / math.log(size)
            found.append((-size, TimeScale(steps, 2 * math.pi / angle if angle > _TURNS else math.inf)))
    return tuple(mode for _, mode in sorted(found, key=lambda pair: pair[0]))


def _log_slope(x: Tensor, y: Tensor) -> float:
    if not bool((torch.isfinite(y) & (y.abs() > 0)).all()):
        return math.nan
    over, values = np.log(x.numpy()), np.log(y.abs().numpy())
    slope, level = np.polyfit(over, values, 1)
    return float(slope) if np.abs(values - slope * over - level).max() <= _BENT else math.nan


def in_words(scales: Sequence[TimeScale]) -> str:
    """Modes in words: ``never fades; fades by e in 9.5 steps, in 999 (turning every 12)``."""
    growing = [f"grows by e in {-s.steps:.3g} steps{_turning(s)}" for s in scales if s.steps < 0]
    lasting = ["never fades" for s in scales if math.isinf(s.steps)][:1]
    fading = [f"{s.steps:.3g}{_turning(s)}" for s in scales if 0 <= s.steps < math.inf]
    told = [*growing, *lasting, *([f"fades by e in {', '.join(fading)} steps"] if fading else [])]
    return " and in part ".join(told)


def _turning(mode: TimeScale) -> str:
    alternates = mode.period <= 2 + 1e-9
    if math.isinf(mode.period) or (alternates and 0 <= mode.steps < 1):
        return ""
    return f" (turning every {mode.period:.3g})"
