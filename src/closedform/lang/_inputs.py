"""Inputs of a program: what a step is given besides states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from closedform.lang._matrices import matrix_shape

INPUTS = {"g": "gradient", "w": "parameter", "t": "step, 1 2 3 ..."}
HORIZON_INPUTS = {"T": "total steps", "progress": "t/T, at most 1"}
SHAPE_INPUTS = {
    "numel": "elements of the parameter tensor",
    "ndim": "its dimensions",
    "fan_in": "its columns: elements a row",
    "fan_out": "its rows",
}
LATE_INPUTS = {**HORIZON_INPUTS, **SHAPE_INPUTS}
"""Inputs of ``closedform.rule/2``; a program of format 1 may give these names a meaning of its own."""


def shape_inputs(shape: Sequence[int]) -> dict[str, Tensor]:
    """``numel``, ``ndim``, ``fan_in`` and ``fan_out`` of a parameter tensor of this shape, scalars in float64.

    The tensor is the matrix [rows, columns] = [shape[0], product of the rest], a vector [n] is [n, 1] and a scalar
    [1, 1]; fan_out is the rows and fan_in the columns, as in a linear layer [out, in] or a convolution
    [out, in, kh, kw].
    """
    return {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in zip(SHAPE_INPUTS, shape_values(shape), strict=True)
    }


def shape_values(shape: Sequence[int]) -> tuple[float, float, float, float]:
    """The values of `SHAPE_INPUTS`, in order, for a parameter tensor of this shape."""
    rows, columns = matrix_shape(shape)
    return float(rows * columns), float(len(shape)), float(columns), float(rows)


def horizon_inputs(t: Tensor, total: float | Tensor) -> dict[str, Tensor]:
    """``T`` and ``progress`` = min(t/T, 1) at step ``t``, in float64 on its device; T is 1 step or more."""
    if not isinstance(total, Tensor):
        total = torch.full((), total, dtype=torch.float64, device=t.device)
    return {"T": total, "progress": (t / total).clamp(max=1.0)}
