"""A random subset of the coordinates of many tensors: drawn in place, read in place.

All coordinates lie on a line, each as long as its score, which is cut into n equal cells; a random point in each cell
picks the coordinate that it hits. Tensors are thus strata of their own, in proportion to their scores, and a coordinate
of score s is picked n s/S times on average, where S is the sum of all: a sum over the picked, each with the factor
S/(n s), is that over all coordinates on average (Horvitz & Thompson 1952). A grid of equal steps would do too, but for
the rows and columns of matrices, with which it can be in step. No buffer of a tensor's size is made: large ones are
walked through in pieces.

Of the scores, ``"slopes"`` is importance sampling for sums of gradient times displacement: |g| of the first step, with
a share of its mean over the tensor and over all, so that a coordinate whose slope grows later cannot weigh much too
much. ``"stratified"`` scores all coordinates alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 1 << 20
"""Elements of a tensor that are scored at a time."""
TENSOR_SHARE, COMMON_SHARE = 0.5, 0.1
"""What a coordinate's score has of the mean slope of its tensor, and of all tensors."""


@dataclass(frozen=True)
class Subset:
    """Coordinates of a list of tensors.

    Attributes:
        picked: For each tensor the places of its picked coordinates, as if it were flat; empty if there are none.
        factors: What the term of each is multiplied by in a sum over all, [n], in order of the tensors.
    """

    picked: list[Tensor]
    factors: Tensor

    def of(self, tensors: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        """Their part of tensors of the same shapes, [n]; 0 where a tensor is missing."""
        parts = [
            places.new_zeros(len(places), dtype=dtype) if tensor is None else tensor.detach().take(places).to(dtype)
            for tensor, places in zip(tensors, self.picked, strict=True)
            if len(places)
        ]
        return torch.cat(parts)


Score = Callable[[Tensor], Tensor]
"""The scores of a piece of a gradient, of the same shape, not negative."""


def draw(grads: Sequence[Tensor | None], count: int, sampling: str, generator: torch.Generator) -> Subset:
    """Draw about ``count`` coordinates; all of them, once each, if there are no more.

    Args:
        grads: The gradients of the first step, of whose tensors coordinates are drawn.
        count: How many.
        sampling: A name in ``SAMPLINGS``.
        generator: On the CPU; ``count`` numbers are drawn.
    """
    here = next(grad for grad in grads if grad is not None)
    if sum(0 if grad is None else grad.numel() for grad in grads) <= count:
        picked = [torch.arange(0 if grad is None else grad.numel(), device=here.device) for grad in grads]
        return Subset(picked, torch.ones(sum(map(len, picked)), dtype=torch.float64, device=here.device))
    scores = SAMPLINGS[sampling](grads)
    totals = [0.0 if grad is None else _total(grad, score) for grad, score in zip(grads, scores, strict=True)]
    cells = torch.arange(count, dtype=torch.float64) + torch.rand(count, generator=generator, dtype=torch.float64)
    step = math.fsum(totals) / count
    points, picked, found, before = (step * cells).to(here.device), [], [], 0.0
    for grad, score in zip(grads, scores, strict=True):
        places, own, before = _pick(grad, score, points, before)
        picked.append(places)
        found.append(own)
    return Subset(picked, step / torch.cat(found))


def _pick(grad: Tensor | None, score: Score, points: Tensor, before: float) -> tuple[Tensor, Tensor, float]:
    """Where points hit a tensor whose line begins at ``before``; their scores; where it ends."""
    places, found = [points.new_empty(0, dtype=torch.int64)], [points.new_empty(0)]
    for first, piece in _pieces(grad):
        scored = score(piece).double()
        ends = before + scored.cumsum(0)
        inside = points[(points >= before) & (points < ends[-1])]
        hit = torch.searchsorted(ends, inside, right=True)
        places.append(first + hit)
        found.append(scored[hit])
        before = float(ends[-1])
    return torch.cat(places), torch.cat(found), before


def _pieces(grad: Tensor | None) -> list[tuple[int, Tensor]]:
    if grad is None or not grad.numel():
        return []
    if not grad.is_contiguous():
        every = range(0, grad.numel(), PIECE)
        places = (torch.arange(at, min(at + PIECE, grad.numel()), device=grad.device) for at in every)
        return [(at, grad.take(own)) for at, own in zip(every, places, strict=True)]
    flat = grad.detach().view(-1)
    return [(at, flat[at : at + PIECE]) for at in range(0, len(flat), PIECE)]


def _total(grad: Tensor, score: Score) -> float:
    return math.fsum(float(score(piece).double().sum()) for _, piece in _pieces(grad))


def _alike(grads: Sequence[Tensor | None]) -> list[Score]:
    return [lambda piece: torch.ones_like(piece, dtype=torch.float32)] * len(grads)


def _slopes(grads: Sequence[Tensor | None]) -> list[Score]:
    sums = [0.0 if grad is None else _total(grad, torch.abs) for grad in grads]
    sizes = [0 if grad is None else grad.numel() for grad in grads]
    common = math.fsum(sums) / max(1, sum(sizes))
    if not 0 < common < math.inf:
        return _alike(grads)
    floors = [TENSOR_SHARE * own / max(1, size) + COMMON_SHARE * common for own, size in zip(sums, sizes, strict=True)]
    return [lambda piece, floor=floor: piece.abs().float() + floor for floor in floors]  # type: ignore[misc]


SAMPLINGS: dict[str, Callable[[Sequence[Tensor | None]], list[Score]]] = {"slopes": _slopes, "stratified": _alike}
"""How coordinates are scored."""
