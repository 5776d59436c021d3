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
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    y = x.mT if tall else x
    y = y / (torch.linalg.vector_norm(y, dim=(-2, -1), keepdim=True) + NORM_FLOOR)
    shape = y.shape
    y = y.reshape(math.prod(shape[:-2]), *shape[-2:])
    for _ in range(ITERATIONS):
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    y = y.reshape(shape)
    return y.mT if tall else y
