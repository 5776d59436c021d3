"""Where a compiled step hands matrices over: buffers shaped like parameters, for what torch does between two passes.

Generated code goes element by element. The arguments of a matrix operator are left in `WorkBuffers`, which put them
through it. A state that is one number a row or column is `SpreadStates` while a step runs, one number an element.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from closedform.lang import Memory, matrix_shape, newton_schulz

TOGETHER = 1 << 16
"""Elements of matrices of one shape that are orthogonalised by the same calls; larger ones fill the processor alone."""


class WorkBuffers:
    """One buffer a parameter, of its shape and layout, for one matrix operator of a rule.

    Contiguous parameters of one shape have their buffers side by side: a stack of matrices as they lie.

    Args:
        params: Dense parameters on the CPU.
        dtype: That the rule computes in.

    Attributes:
        tensors: The buffers, in the parameters' order.
    """

    def __init__(self, params: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.tensors: list[Tensor] = [torch.empty(0)] * len(params)
        self._stacks: list[Tensor] = []
        for places in _alike(params):
            first = params[places[0]]
            if first.is_contiguous():
                stack = torch.zeros((len(places), *first.shape), dtype=dtype)
            else:
                stack = torch.zeros_like(first, dtype=dtype)[None]
            for place, buffer in zip(places, stack, strict=True):
                self.tensors[place] = buffer
            if first.numel() > 0:
                self._stacks.append(stack)

    @property
    def addresses(self) -> list[int]:
        """Of the buffers."""
        return [buffer.data_ptr() for buffer in self.tensors]

    def apply(self, operator: str) -> None:
        """Put every buffer through a matrix operator; means are spread over their row or column."""
        for stack in self._stacks:
            _IN_PLACE[operator](stack)


class SpreadStates:
    """Buffers for states of one number a row or column.

    Args:
        params: As for `WorkBuffers`.
        memories: For each parameter its memory.
        keys: Those of its entries that are spread.
        dtype: Theirs, and what the rule computes in.

    Attributes:
        buffers: For each key.
    """

    def __init__(
        self, params: Sequence[Tensor], memories: Sequence[Memory], keys: Sequence[str], dtype: torch.dtype
    ) -> None:
        self.buffers: Mapping[str, WorkBuffers] = {key: WorkBuffers(params, dtype) for key in keys}
        self._kept, self._from, self._to, self._back = [], [], [], []
        for key, found in self.buffers.items():
            for buffer, memory in zip(found.tensors, memories, strict=True):
                value = memory[key]
                self._kept.append(value)
                self._from.append(value.expand_as(buffer))
                self._to.append(buffer)
                self._back.append(buffer[tuple(slice(size) for size in value.shape)])

    def fill(self) -> None:
        """Spread the states over their buffers, before the first pass."""
        if self._to:
            torch._foreach_copy_(self._to, self._from)

    def keep(self) -> None:
        """Take the new states back, after the last pass."""
        if self._kept:
            torch._foreach_copy_(self._kept, self._back)


def _orthogonalise(stack: Tensor) -> None:
    if stack.dim() > 2:
        shape = matrix_shape(stack.shape[1:])
        for part in stack.split(max(1, TOGETHER // stack[0].numel())):
            part.copy_(newton_schulz(part.reshape(-1, *shape)).reshape(part.shape))


def _row_mean(stack: Tensor) -> None:
    if stack.dim() > 2:
        stack.copy_(stack.mean(tuple(range(2, stack.dim())), keepdim=True).expand_as(stack))


def _column_mean(stack: Tensor) -> None:
    if stack.dim() > 1:
        stack.copy_(stack.mean(1, keepdim=True).expand_as(stack))


_IN_PLACE = {"orthogonalise": _orthogonalise, "row_mean": _row_mean, "col_mean": _column_mean}


def _alike(params: Sequence[Tensor]) -> Iterator[list[int]]:
    """Places of contiguous parameters of one shape together; others alone."""
    found: dict[torch.Size, list[int]] = {}
    for place, param in enumerate(params):
        if param.is_contiguous():
            found.setdefault(param.shape, []).append(place)
        else:
            yield [place]
    yield from found.values()
