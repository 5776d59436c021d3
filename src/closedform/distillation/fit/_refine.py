"""An equation's constants, fitted: decays of averages are among them.

They are fitted by Levenberg-Marquardt in the update's own units divided by its spread. Whole numbers up to 3 are
the equation's form (the 2 of x**2, the 1 of 1 + x**2) and stay.
"""

from __future__ import annotations

import numpy as np
import torch

from closedform.distillation.fit._residuals import Fit
from closedform.distillation.problem import (
    Candidate,
    Problem,
)

MAX_DAMPING = 1e6
CONVERGED = 1e-6
"""Share of the squared error whose gain no longer pays for another step."""


def refine(candidate: Candidate, data: Problem, evaluations: int = 15, rows: int | None = None) -> Candidate:
    """Fit a candidate's constants, decays among them, to the training rows: Levenberg-Marquardt.

    Args:
        candidate: Where to start.
        data: The data.
        evaluations: Steps of the fit, at most.
        rows: Training rows to fit to, spread evenly; None: all.

    Returns:
        The fitted candidate, or the one given if the fit is no better.
    """
    if candidate.whole is not None:  # its stage has fitted it
        return candidate
    count = len(data.train.y)
    fit = Fit(
        candidate,
        data,
        torch.linspace(0, count - 1, min(rows or count, count), dtype=torch.float64).round().to(torch.int64),
    )
    x = np.zeros(fit.size)
    residuals = fit.residuals(x)
    first = cost = float(residuals @ residuals)
    damping = 1e-3
    for _ in range(evaluations if fit.size else 0):
        jacobian = fit.jacobian(x)
        curvature, slope = jacobian.T @ jacobian, jacobian.T @ residuals
        while damping < MAX_DAMPING:
            place = fit.moved(x, _damped_step(curvature, slope, damping))
            tried = fit.residuals(place)
            if float(tried @ tried) < cost:
                break
            damping *= 5
        else:
            break
        gain, x, residuals, cost = cost - float(tried @ tried), place, tried, float(tried @ tried)
        damping = max(damping / 5, 1e-9)
        if gain <= CONVERGED * cost:
            break
    return fit.candidate_at(x) if cost < first else candidate


def _damped_step(curvature: np.ndarray, slope: np.ndarray, damping: float) -> np.ndarray:
    """The step for a damping in units of each unknown's own curvature; unknowns without any stay."""
    diagonal = curvature.diagonal()
    felt = diagonal > 1e-14 * max(float(diagonal.max()), 1e-200)
    scale = np.where(felt, 1 / np.sqrt(np.where(felt, diagonal, 1.0)), 0.0)
    matrix = scale[:, None] * curvature * scale + damping * np.eye(len(scale))
    return scale * np.linalg.solve(matrix, scale * slope)
