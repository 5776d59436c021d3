"""Which coordinates and which rows a recording keeps, so that small layers and all times are seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def even_shares(total: int, sizes: Sequence[int]) -> list[int]:
    """Share ``total`` among bins as evenly as their sizes allow: a full bin's rest goes to the others.

    Example:
        >>> even_shares(10, [2, 100, 100])
        [2, 4, 4]
    """
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left:
        room = [index for index, size in enumerate(sizes) if shares[index] < size]
        each = max(left // len(room), 1)
        for index in room:
            extra = min(each, sizes[index] - shares[index], left)
            shares[index] += extra
            left -= extra
    return shares


def draw_coordinates(sizes: Sequence[int], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates of the flat parameter vector, as many of each tensor as of any other.

    Args:
        sizes: Lengths of the parameter tensors, end to end.
        count: Coordinates to draw, all different; fewer if there are fewer.
        generator: Draws them.

    Returns:
        Their indices in the flat vector, in order, and the number of the tensor of each; [C], int64.
    """
    drawn, layers, start = [], [], 0
    for layer, (size, share) in enumerate(zip(sizes, even_shares(count, sizes), strict=True)):
        chosen = torch.randperm(size, generator=generator)[:share].sort().values
        drawn.append(start + chosen)
        layers.append(torch.full((share,), layer, dtype=torch.int64))
        start += size
    return torch.cat(drawn), torch.cat(layers)


def draw_cells(finite: Tensor, layers: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows of a recording: cells of [E, T, C], of every layer as many, spread evenly over time.

    Args:
        finite: [E, T, C], which cells may be drawn.
        layers: [E, C], each coordinate's layer.
        count: Rows to draw, all different; fewer if there are fewer.
        generator: Draws them.

    Returns:
        [N, 3], int64: episode, step and coordinate indices from 0, ordered.
    """
    candidates = finite.nonzero()
    layer = layers[candidates[:, 0], candidates[:, 2]]
    members = [(layer == number).nonzero().squeeze(1) for number in layer.unique().tolist()]
    chosen = []
    for rows, share in zip(members, even_shares(count, [len(rows) for rows in members]), strict=True):
        order = torch.randperm(len(rows), generator=generator)
        order = order[candidates[rows[order], 1].argsort(stable=True)]  # in time, and at random within a step
        picks = torch.linspace(0, len(rows) - 1, share, dtype=torch.float64).round().to(torch.int64)
        chosen.append(rows[order[picks]])
    return candidates[torch.cat(chosen).sort().values] if chosen else candidates[:0]
