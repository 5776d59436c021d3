"""Distributions of tasks, and the families, changes of scale and small problems that they are made of."""

from __future__ import annotations

from closedform.tasks.distribution._distribution import DrawnTask, TaskDistribution
from closedform.tasks.distribution._families import FAMILIES, Family
from closedform.tasks.distribution._synthetic import (
    Diabetes,
    Factorisation,
    LeastSquares,
    RegressionOptions,
    TeacherStudent,
)
from closedform.tasks.distribution._wrappers import NoisyLabels, Reparametrised, ScaledStart, WrappedTask

__all__ = [
    "FAMILIES",
    "Diabetes",
    "DrawnTask",
    "Factorisation",
    "Family",
    "LeastSquares",
    "NoisyLabels",
    "RegressionOptions",
    "Reparametrised",
    "ScaledStart",
    "TaskDistribution",
    "TeacherStudent",
    "WrappedTask",
]
