"""Adafactor's second moments as inputs of a learned optimizer: means of g^2 over rows and columns, at several decays.

For a parameter tensor with two or more dimensions the longest is its columns, the second longest its rows; the others
are batches. It keeps R = EMA(mean of g^2 over columns) and C = EMA(mean of g^2 over rows), and takes R C/mean(R) for
the second moment of an entry. A vector keeps V = EMA(g^2) itself.

Source: Shazeer & Stern 2018, Adafactor, algorithm 2; as inputs of a network, Metz et al. 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from closedform.learned_optimizers._base import Sizes, State

INPUTS = 6
"""Rows that `Adafactor.step` gives for each decay."""
Shape: TypeAlias = tuple[int, ...]
_TINY = 1e-30
"""Added to g^2."""
_FLOOR = 1e-9
"""Added to a mean that divides, and least value that a root is taken of."""
_ROOT = 1e-8
"""Added under the inverse roots of the means."""
_VECTOR = 1e-6
"""Added under a vector's root that divides the momenta."""


class Adafactor:
    """Factored second moments of all parameter tensors, at D decays.

    The i-th tensor's part of a state is ``row{i}`` and ``column{i}``, which have its shape after a dimension D, but for
    a 1 where they are means; or ``second{i}``, [D, n], for a vector. So shapes say all there is to know of the tensors,
    also under ``torch.func.vmap``.

    Args:
        decays: Decays of the averages, per step.
    """

    def __init__(self, decays: Sequence[float]) -> None:
        self.decays = tuple(decays)

    def init_state(self, w: Tensor, sizes: Sizes) -> State:
        """Zeros for parameter tensors of these shapes; ``w`` says their type and device."""
        state: State = {}
        for index, size in enumerate(sizes):
            shape = (size,) if isinstance(size, int) else tuple(size)
            if len(shape) < 2:
                state[f"second{index}"] = w.new_zeros(len(self.decays), math.prod(shape))
                continue
            rows, columns = _longest(shape)
            for name, over in (("row", columns), ("column", rows)):
                kept = [1 if dim == over else length for dim, length in enumerate(shape)]
                state[f"{name}{index}"] = w.new_zeros(len(self.decays), *kept)
        return state

    def step(self, g: Tensor, momenta: Tensor, state: State) -> tuple[Tensor, list[int], State]:
        """One step.

        Args:
            g: Gradient, [N].
            momenta: Momenta with the same decays, [D, N].
            state: Holds what `init_state` gave, among others.

        Returns:
            The inputs, [6 D, N]: g over the root, row means, column means, the inverse roots of both, and the momenta
            over the root; the lengths of the tensors; and the new state.
        """
        shapes = list(_shapes(state))
        sizes = [math.prod(shape) for shape in shapes]
        new: State = {}
        parts = []
        for index, (shape, own, m) in enumerate(zip(shapes, g.split(sizes), momenta.split(sizes, dim=1), strict=True)):
            decay = g.new_tensor(self.decays).view(-1, *[1] * len(shape))
            own, m = own.view(1, *shape), m.view(-1, *shape)
            if len(shape) < 2:
                second = new[f"second{index}"] = _average(decay, state[f"second{index}"], own.square() + _TINY)
                inputs = _of_vector(own, m, second)
            else:
                rows, columns = (dim + 1 for dim in _longest(shape))
                square = own.square() + _TINY
                row = _average(decay, state[f"row{index}"], square.mean(columns, keepdim=True))
                column = _average(decay, state[f"column{index}"], square.mean(rows, keepdim=True))
                new |= {f"row{index}": row, f"column{index}": column}
                inputs = _of_matrix(own, m, row, column, rows)
            parts.append(torch.cat([value.expand_as(m).reshape(len(self.decays), -1) for value in inputs]))
        return torch.cat(parts, dim=1), sizes, new


def _shapes(state: State) -> Iterator[Shape]:
    """Shapes of the parameter tensors, in order, read from what is kept for them."""
    index = 0
    while True:
        if f"second{index}" in state:
            yield tuple(state[f"second{index}"].shape[1:])
        elif f"row{index}" in state:
            yield tuple(torch.broadcast_shapes(state[f"row{index}"].shape, state[f"column{index}"].shape)[1:])
        else:
            return
        index += 1


def _longest(shape: Shape) -> list[int]:
    """The second longest dimension and the longest."""
    return sorted(range(len(shape)), key=shape.__getitem__)[-2:]


def _average(decay: Tensor, old: Tensor, value: Tensor) -> Tensor:
    return decay * old + (1 - decay) * value


def _of_vector(g: Tensor, momenta: Tensor, second: Tensor) -> list[Tensor]:
    inverse = torch.rsqrt(second + _ROOT)
    over_root = g * torch.rsqrt(second + _FLOOR)
    return [over_root, second, second, inverse, inverse, momenta * torch.rsqrt(second + _VECTOR)]


def _of_matrix(g: Tensor, momenta: Tensor, row: Tensor, column: Tensor, rows: int) -> list[Tensor]:
    share = row / (row.mean(rows, keepdim=True) + _FLOOR)
    factor = torch.rsqrt(share.clamp(min=_FLOOR)) * torch.rsqrt(column.clamp(min=_FLOOR))
    inverses = [torch.rsqrt(row + _ROOT), torch.rsqrt(column + _ROOT)]
    return [g * factor, row, column, *inverses, momenta * factor]
