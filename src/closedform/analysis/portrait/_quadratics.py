"""A linear rule on quadratics: where it is stable, and how fast it can be.

On f(w) = c w^2/2 a rule that is linear in g and its states is a matrix; w shrinks by its spectral radius a step. Over
curvatures from 1 to kappa the best that gradient descent can do is (kappa - 1)/(kappa + 1), and heavy ball
(sqrt(kappa) - 1)/(sqrt(kappa) + 1) (Polyak 1964).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from closedform.analysis._stability import linear_limit, linear_radius
from closedform.lang import Program
from closedform.rules import Rule

KAPPA = 100.0


@dataclass(frozen=True)
class Quadratics:
    """A linear rule on quadratics; rates are learning rate x curvature.

    Attributes:
        limit: The largest stable rate.
        rate: Rates, up to the limit and a little past it.
        radius: Factor by which w shrinks a step, at each rate.
        kappa: Ratio of the largest curvature to the smallest.
        best: The least factor a step over all those curvatures, the learning rate being chosen.
        gradient_descent, heavy_ball: What these can reach.
    """

    limit: float
    rate: tuple[float, ...]
    radius: tuple[float, ...]
    kappa: float
    best: float
    gradient_descent: float
    heavy_ball: float


def radius_over(rule: Rule, rates: np.ndarray) -> np.ndarray | None:
    """The factor by which w shrinks a step on curvature 1, at each rate; None for a rule that is not linear."""
    radius = linear_radius(_merged(rule))
    return None if radius is None else np.array([radius(float(rate)) for rate in rates])


def quadratics(rule: Rule, kappa: float = KAPPA) -> Quadratics | None:
    """What a linear rule does on quadratics; None for others, and for those that are stable at no rate or at all."""
    limit = linear_limit(_merged(rule)) if not rule.program.reduces else None
    if limit is None or not 0 < limit < math.inf:
        return None
    rates = np.geomspace(limit / 1e4, 1.1 * limit, 400)
    found = radius_over(rule, rates)
    assert found is not None
    shown = np.linspace(0, 1.1 * limit, 56)[1:]
    radius = radius_over(rule, shown)
    assert radius is not None
    span = round(math.log(kappa) / math.log(rates[1] / rates[0]))
    worst = np.array([found[k : k + span + 1].max() for k in range(len(rates) - span)])
    root = math.sqrt(kappa)
    return Quadratics(
        limit,
        tuple(shown.tolist()),
        tuple(radius.tolist()),
        kappa,
        float(worst.min()),
        (kappa - 1) / (kappa + 1),
        (root - 1) / (root + 1),
    )


def _merged(rule: Rule) -> Program:
    return rule.program.merged
