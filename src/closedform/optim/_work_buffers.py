"""Where a compiled step hands matrices over: buffers shaped like the parameters, orthogonalised between two passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from closedform.lang import matrix_shape, newton_schulz

TOGETHER = 1 << 16
"""Elements of matrices of one shape that are orthogonalised by the same calls; larger ones fill the processor alone."""


class WorkBuffers:
    """One buffer a parameter, of its shape and layout, for one matrix operator of a rule.

    Contiguous parameters of one shape have their buffers side by side: a stack of matrices as they lie.

    Args:
        params: Dense parameters on the CPU.
        dtype: That the rule computes in.

    Attributes:
        addresses: Of the buffers, in the parameters' order.
    """

    def __init__(self, params: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.addresses = [0] * len(params)
        self._buffers: list[Tensor] = []  # keeps vectors' memory alive as well
        self._stacks: list[Tensor] = []
        for places in _alike(params):
            first = params[places[0]]
            if first.is_contiguous():
                stack = torch.zeros((len(places), *first.shape), dtype=dtype)
            else:
                stack = torch.zeros_like(first, dtype=dtype)[None]
            for place, buffer in zip(places, stack, strict=True):
                self.addresses[place] = buffer.data_ptr()
            self._buffers.append(stack)
            if first.dim() > 1 and first.numel() > 0:
                self._stacks.append(stack)

    def orthogonalise(self) -> None:
        """Replace every matrix by the one of nearly equal singular values; vectors and scalars stay."""
        for stack in self._stacks:
            shape = matrix_shape(stack.shape[1:])
            for part in stack.split(max(1, TOGETHER // stack[0].numel())):
                part.copy_(newton_schulz(part.reshape(-1, *shape)).reshape(part.shape))


def _alike(params: Sequence[Tensor]) -> Iterator[list[int]]:
    """Places of contiguous parameters of one shape together; others alone."""
    found: dict[torch.Size, list[int]] = {}
    for place, param in enumerate(params):
        if param.is_contiguous():
            found.setdefault(param.shape, []).append(place)
        else:
            yield [place]
    yield from found.values()
