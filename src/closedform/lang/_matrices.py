"""A parameter tensor as a matrix: its view, shape inputs, means of rows and columns, and orthogonalisation.

A tensor of shape [a, b, c, ...] is the matrix [rows, columns] = [a, b c ...]; a vector [n] is the column [n, 1], a
scalar [1, 1]. So for a linear layer [out, in] and a convolution [out, in, kh, kw] rows are outputs and columns what
each of them reads: ``fan_out`` = rows and ``fan_in`` = columns, in kh kw for the convolution. An embedding
[vocabulary, width] is taken by its shape alone: fan_out is the vocabulary, fan_in the width. Vectors have fan_in 1.

Means keep their tensor's dimensions, so that they broadcast with it: the row mean of [a, b, c] is [a, 1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic x -> a x + b x^3 + c x^5, which takes singular values in (0, 1] to about [0.7, 1.2] when iterated."""
ITERATIONS = 5
NORM_FLOOR = 1e-7
"""Added to the Frobenius norm that a matrix is divided by first."""
WIDE, FEWEST = 2, 32
"""Columns a row, and rows, from which on the iteration goes over products of rows, smaller than the matrix."""
ROUNDS = (3, 2)
"""Its iterations, from fresh products each time: after more of them small singular values would drown in rounding."""


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a parameter tensor of this shape."""
    return (int(shape[0]), math.prod(shape[1:])) if len(shape) else (1, 1)


def row_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one number a row, broadcastable to ``shape``."""
    return (*shape[:1], *(1 for _ in shape[1:]))


def column_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one number a column, broadcastable to ``shape``."""
    return (*(1 for _ in shape[:1]), *shape[1:])


def row_mean(x: Tensor) -> Tensor:
    """Mean over each row, [a, 1, ...]; a vector or scalar is its own."""
    return x.mean(tuple(range(1, x.dim())), keepdim=True) if x.dim() > 1 else x


def column_mean(x: Tensor) -> Tensor:
    """Mean over each column, [1, b, ...]."""
    return x.mean(0, keepdim=True) if x.dim() else x


def orthogonalised(x: Tensor) -> Tensor:
    """The matrix of ``x`` with its singular values brought near 1; vectors and scalars as they are."""
    return newton_schulz(x.reshape(matrix_shape(x.shape))).reshape(x.shape) if x.dim() > 1 else x


def newton_schulz(x: Tensor) -> Tensor:
    """U f(S) V^T of matrices U S V^T, [..., rows, columns], by products of matrices alone.

    Computed in the type of ``x``. Odd, and scale-free where the norm is far above 1e-7; zeros give zeros.

    References:
        K. Jordan et al. 2024, `Muon <https://kellerjordan.github.io/posts/muon/>`_: coefficients and number of steps.
        J. Zhang, N. Amsel, B. Chen & T. Dao 2026, `Gram Newton-Schulz
        <https://dao-lab.ai/blog/2026/gram-newton-schulz>`_: products of rows, and why to begin them anew.
    """
    tall = x.shape[-2] > x.shape[-1]
    y = x.mT if tall else x
    y = y / (torch.linalg.vector_norm(y, dim=(-2, -1), keepdim=True) + NORM_FLOOR)
    shape = y.shape
    y = y.reshape(math.prod(shape[:-2]), *shape[-2:])
    if shape[-2] >= FEWEST and shape[-1] >= WIDE * shape[-2]:
        for count in ROUNDS:
            y = _iterated_wide(y, count)
    else:
        y = _iterated(y)
    y = y.reshape(shape)
    return y.mT if tall else y


def _iterated(y: Tensor) -> Tensor:
    """``y <- (a + b G + c G^2) y`` with ``G = y y^T``; matrices [K, m, n]."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y


def _iterated_wide(y: Tensor, count: int) -> Tensor:
    """The same, ``count`` times, with two products of size m m n in place of ``2 count``, the others of size m m m.

    With ``P = a + b G + c G^2`` the next ``G`` is ``P G P``, and what multiplies ``y`` in the end the product of all P.
    """
    a, b, c = COEFFICIENTS
    gram = torch.bmm(y, y.mT)
    factor = a * torch.eye(y.shape[-2], dtype=y.dtype, device=y.device)
    for index in range(count):
        rest = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # P - a
        factor = factor + rest if index == 0 else torch.baddbmm(factor, rest, factor, beta=a)
        if index + 1 < count:
            half = torch.baddbmm(gram, rest, gram, beta=a)
            gram = torch.baddbmm(half, half, rest, beta=a)
    return torch.bmm(factor, y)
