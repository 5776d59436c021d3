"""Memory for large results of which every step makes new ones and drops those of the step before.

The C library gives memory of tens of megabytes back to the system as soon as it is free, and takes it anew, page by
page, a moment later: for a recurrent network on a million parameters that takes as long as its arithmetic. Here it is
kept for the next step. A tensor is only ever given memory that no other one can see: memory comes back when the last
tensor over it is gone, views included.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

LARGE = 1 << 20
"""Elements from which on a tensor's memory is kept; smaller ones the C library keeps by itself."""


class Recycler:
    """Hands out memory for float32 tensors on the CPU, and keeps what comes back.

    Args:
        spare: Pieces of one size that it keeps.
    """

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._free: dict[int, list[Tensor]] = {}

    def empty_like(self, value: Tensor) -> Tensor:
        """A tensor of this shape, not initialised."""
        if value.numel() < LARGE:
            return torch.empty_like(value)
        pieces = self._free.get(value.numel())
        piece = pieces.pop() if pieces else torch.empty(value.numel())
        lease = piece.numpy()
        weakref.finalize(lease, _give_back, weakref.ref(self), piece).atexit = False
        return torch.from_numpy(lease).view(value.shape)

    def take_back(self, piece: Tensor) -> None:
        """Keep a piece of memory that nobody sees any more."""
        pieces = self._free.setdefault(piece.numel(), [])
        if len(pieces) < self._spare:
            pieces.append(piece)


def _give_back(recycler: weakref.ref[Recycler], piece: Tensor) -> None:
    owner = recycler()
    if owner is not None:
        owner.take_back(piece)
