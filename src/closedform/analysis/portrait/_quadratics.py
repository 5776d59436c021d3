"""A linear rule on quadratics: where it is stable, and how fast it can be.

On f(w) = c w^2/2 a rule that is linear in g and its states is a matrix; w shrinks by its spectral radius a step. Over
curvatures from 1 to kappa the best that gradient descent can do is (kappa - 1)/(kappa + 1), and heavy ball
(sqrt(kappa) - 1)/(sqrt(kappa) + 1) (Polyak 1964). Learning rate and curvature count as their product alone, but for a
rule that also reads w (weight decay).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from closedform.analysis._stability import linear_limit, linear_radius
from closedform.lang import Program
from closedform.rules import Rule

KAPPA = 100.0
_SHOWN = 55
_CURVATURES, _RATES, _FINER, _PASSES = 15, 41, 9, 9
"""Places at which the best rate is looked for: curvatures, rates, rates in each finer grid, grids."""


@dataclass(frozen=True)
class Quadratics:
    """A linear rule on quadratics; rates are learning rates on a curvature of 1.

    Attributes:
        product: Whether a rate counts as learning rate x curvature on any curvature.
        limit: The largest stable rate.
        rate: Rates, up to the limit and a little past it.
        radius: Factor by which w shrinks a step, at each rate.
        kappa: Ratio of the largest curvature to the smallest.
        best: The least factor a step over all those curvatures, the learning rate being chosen.
        gradient_descent, heavy_ball: What these can reach.
    """

    product: bool
    limit: float
    rate: tuple[float, ...]
    radius: tuple[float, ...]
    kappa: float
    best: float
    gradient_descent: float
    heavy_ball: float


def is_linear(rule: Rule) -> bool:
    """Whether a rule is a matrix on quadratics."""
    return linear_radius(_merged(rule)) is not None


def radius_over(rule: Rule, rates: np.ndarray) -> np.ndarray | None:
    """The factor by which w shrinks a step on curvature 1, at each rate; None for a rule that is not linear."""
    radius = linear_radius(_merged(rule))
    return None if radius is None else np.array([radius(float(rate)) for rate in rates])


def quadratics(rule: Rule, kappa: float = KAPPA) -> Quadratics | None:
    """What a linear rule does on quadratics; None for others, and for those that are stable at no rate or at all."""
    program = _merged(rule)
    reads = program.live.reads
    radius = linear_radius(program) if not program.reduces and "g" in reads else None
    limit = linear_limit(program) if radius is not None else None
    if radius is None or limit is None or not 0 < limit < math.inf:
        return None
    shown = np.linspace(0, 1.1 * limit, _SHOWN + 1)[1:]
    root = math.sqrt(kappa)
    return Quadratics(
        "w" not in reads,
        limit,
        tuple(shown.tolist()),
        tuple(radius(float(rate)) for rate in shown),
        kappa,
        _best(radius, limit, kappa),
        (kappa - 1) / (kappa + 1),
        (root - 1) / (root + 1),
    )


def _best(radius: Callable[..., float], limit: float, kappa: float) -> float:
    """The least over learning rates of the largest radius over curvatures, by ever finer grids."""
    curvatures = np.geomspace(1, kappa, _CURVATURES)

    def worst(rate: float) -> float:
        return max(radius(rate, float(curvature)) for curvature in curvatures)

    rates = np.geomspace(limit / (10 * kappa), limit, _RATES)
    for _ in range(_PASSES):
        found = [worst(float(rate)) for rate in rates]
        least = int(np.argmin(found))
        rates = np.geomspace(rates[max(least - 1, 0)], rates[min(least + 1, len(rates) - 1)], _FINER)
    return float(min(found))


def _merged(rule: Rule) -> Program:
    return rule.program.merged
