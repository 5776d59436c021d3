"""The compiled step: a program as native code, called on many tensors at once.

A `Kernel` is compiled code for one program and one choice of storage types. A `Batch` calls it on tensors that take
their steps together: one call a step, whatever the number of tensors. Addresses, shapes, strides and types are read
every step, since a tensor may be swapped, cut or transposed at any time, and handed over only if one has changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import torch
from torch import Tensor

from closedform.codegen import (
    CHUNK,
    TYPES,
    NativeUnavailable,
    Plan,
    Storage,
    c_source,
    layout,
    load,
    lower,
    openmp_parallel,
    spread,
    threads_for,
)
from closedform.lang import SHAPE_INPUTS, Kind, Memory, Program, memory_shape, shape_values
from closedform.optim._surgery import Look, lay_out_like, look
from closedform.optim._work_buffers import SpreadStates, WorkBuffers

LARGEST_PLAN = 20_000
"""Operations past which compilation would take minutes."""
DTYPES = {getattr(torch, name): name for name in TYPES}


class _Call(ctypes.Structure):
    """``cf_call`` of cf_step.h."""

    _fields_ = (
        ("tensors", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("params", ctypes.c_void_p),
        ("grads", ctypes.c_void_p),
        ("memory", ctypes.c_void_p),
        ("scalars", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("shapes", ctypes.c_void_p),
        ("constants", ctypes.c_void_p),
        ("t", ctypes.c_double),
        ("total", ctypes.c_double),
        ("lr", ctypes.c_double),
        ("weight_decay", ctypes.c_double),
        ("sign", ctypes.c_double),
        ("seed", ctypes.c_uint64),
        ("stage", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("parallel", ctypes.c_void_p),
    )


class Kernel:
    """A program compiled for one choice of storage types.

    Args:
        program: With the one output ``update``.
        param, grad, state: Types of parameters, gradients and elementwise states: float32, bfloat16 or float64.
        stochastic: Round bfloat16 states stochastically.
        open_constants: Constants that are handed over at every step instead of being part of the code.

    Raises:
        NativeUnavailable: it cannot be compiled here; the text says why.
    """

    def __init__(
        self,
        program: Program,
        param: torch.dtype = torch.float32,
        grad: torch.dtype | None = None,
        state: torch.dtype | None = None,
        *,
        stochastic: bool = False,
        open_constants: Sequence[str] = (),
    ) -> None:
        self.param, self.grad, self.state = param, grad or param, state or param
        for dtype in (self.param, self.grad, self.state):
            if dtype not in DTYPES:
                raise NativeUnavailable(f"compiled steps work on {', '.join(TYPES)}, not {str(dtype)[6:]}")
        plan = lower(program, open_constants)
        if len(plan.nodes) > LARGEST_PLAN:
            raise NativeUnavailable(f"the rule has {len(plan.nodes)} operations; at most {LARGEST_PLAN} are compiled")
        self.real = torch.float64 if self.param is torch.float64 else torch.float32
        self.spread = self._spread(plan)
        storage = Storage(DTYPES[self.param], DTYPES[self.grad], DTYPES[self.state], stochastic)
        self.layout = layout(plan)
        self.reduces = self.layout.sums > 0 or bool(self.layout.handed)
        self.needs_shapes = program.merged.needs_shapes
        self.rings = plan.rings
        self.keys = tuple(key for ring in plan.rings for key in ring.keys)
        self.looked_at = tuple(sorted(self.keys))
        self.deep_rings = tuple(ring.keys for ring in plan.rings if ring.depth > 1)
        types = {Kind.UNIFORM: torch.float64, Kind.ELEMENTWISE: self.state}
        self.types = {key: (ring.kind, types.get(ring.kind, self.real)) for ring in plan.rings for key in ring.keys}
        self._library = load(c_source(spread(plan), storage))  # keeps the code mapped
        self.function = self._library.cf_step
        self.function.argtypes = (ctypes.c_void_p,)

    def _spread(self, plan: Plan) -> tuple[str, ...]:
        """Memory keys of what is one number a row or column, and is spread over the elements during a step."""
        rings = [ring for ring in plan.rings if ring.kind in (Kind.ROWWISE, Kind.COLUMNWISE)]
        if any(ring.depth > 1 for ring in rings):
            raise NativeUnavailable("the rule looks back at rows and columns")
        if rings and not any(ring.kind is Kind.ELEMENTWISE for ring in plan.rings):
            self.state = self.real
        if rings and self.state is not self.real:
            raise NativeUnavailable(f"the rule keeps rows and columns beside states in {str(self.state)[6:]}")
        return tuple(key for ring in rings for key in ring.keys)


@dataclass
class _Bound:
    """What a call hands over until a tensor changes; ctypes arrays are kept alive here.

    Attributes:
        seen: The tensors that this was made for.
        grads: Addresses of gradients that were handed over.
        fitting: Whether gradients are laid out like their parameters.
        elements: Of all parameters.
        shapes: Whole shapes of the parameters, if the program reads them.
        arrays: Fields of the call.
        work: For each stage but the last, what is to be done before the next: buffers, and an operator.
        spread: States that are spread during a step.
    """

    seen: Look
    grads: list[int]
    fitting: bool
    elements: int
    shapes: list[tuple[int, ...]]
    arrays: dict[str, ctypes.Array[Any]]
    work: list[list[tuple[WorkBuffers, str]]]
    spread: SpreadStates


class Batch:
    """Calls a kernel on tensors that take their steps together; keeps the arguments that stay the same.

    Args:
        kernel: The compiled program.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._bound: _Bound | None = None
        self._call = _Call(parallel=openmp_parallel())
        self._argument = ctypes.addressof(self._call)

    def step(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        memories: Sequence[Memory],
        t: float,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        *,
        total_steps: int | None = None,
        shapes: Sequence[Sequence[int]] | None = None,
        maximize: bool = False,
        seed: int = 0,
        seen: Look | None = None,
        constants: Sequence[float] = (),
    ) -> None:
        """Advance parameters and their memories by one step, in place.

        Args:
            params: Parameters, at least one, of the kernel's type, dense, on the CPU.
            grads: Gradients, one a parameter, shaped like it; strided, on the CPU.
            memories: For each parameter its memory, as `closedform.lang.initial_memory` lays it out; more keys do not
                matter. Lagged entries change places.
            t: Number of this step, from 1.
            lr: Learning rate (units of parameter per unit of update), a number or a scalar tensor.
            weight_decay: Decoupled weight decay (update per unit of parameter).
            total_steps: T, if the program reads it.
            shapes: Whole shapes of the parameters, if they are shards of larger ones.
            maximize: Turn the gradients round.
            seed: Of stochastic rounding; give another one every step.
            seen: What has just been read of these tensors (`look`, with the kernel's keys, sorted); None to read it.
            constants: Values of the kernel's open constants, in their order.

        Raises:
            NativeUnavailable: a tensor is of another type, device or layout than the kernel's; nothing was changed.
        """
        bound, call = self._bound, self._call
        seen = seen or look(params, grads, memories, self.kernel.looked_at)
        whole = [tuple(shape) for shape in shapes or seen.shapes[: len(params)]] if self.kernel.needs_shapes else []
        if bound is None or whole != bound.shapes or not (seen is bound.seen or seen.same_forms(bound.seen)):
            bound = self._bind(params, grads, memories, whole)
        else:
            bound.seen = seen
        found = seen.grads
        if not bound.fitting:
            grads = self._fitting(params, grads)
            found = [grad.data_ptr() for grad in grads]
        if found != bound.grads:
            bound.arrays["grads"][:] = found
            bound.grads = found
        call.t, call.lr, call.weight_decay, call.seed = t, float(lr), weight_decay, seed
        call.sign, call.total = -1.0 if maximize else 1.0, 1.0 if total_steps is None else total_steps
        call.threads = threads_for(bound.elements)
        self._open = (ctypes.c_double * len(constants))(*constants)
        call.constants = ctypes.addressof(self._open)
        self._run(bound)
        if self.kernel.deep_rings:
            for memory in memories:
                rotate(memory, self.kernel.deep_rings)

    def _run(self, bound: _Bound) -> None:
        """All stages, and what lies between them."""
        bound.spread.fill()
        self._call.stage = 0
        self.kernel.function(self._argument)
        for handed in bound.work:
            for buffers, operator in handed:
                buffers.apply(operator)
            self._call.stage += 1
            self.kernel.function(self._argument)
        bound.spread.keep()

    def _bind(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        memories: Sequence[Memory],
        shapes: list[tuple[int, ...]],
    ) -> _Bound:
        """Check the tensors and hand over their addresses and sizes."""
        self._bound = None  # should a check fail
        self._check(params, grads, memories)
        seen = look(params, grads, memories, self.kernel.looked_at)  # a state may have been laid out anew
        shape, count = self.kernel.layout, len(params)
        sizes = [param.numel() for param in params]
        first = [0, *accumulate(-(-size // CHUNK) for size in sizes)]
        work = [[(WorkBuffers(params, self.kernel.real), name) for name in handed] for handed in shape.handed]
        spread_states = SpreadStates(params, memories, self.kernel.spread, self.kernel.real)
        kept = [{key: memory[key].data_ptr() for key in self.kernel.keys} for memory in memories]
        for key, buffers in spread_states.buffers.items():
            for column, address in zip(kept, buffers.addresses, strict=True):
                column[key] = address
        handed = [buffers.addresses for buffers, _ in chain(*work)]
        columns = [[*column.values(), *(own[place] for own in handed)] for place, column in enumerate(kept)]
        arrays: dict[str, ctypes.Array[Any]] = {
            "sizes": (ctypes.c_int64 * count)(*sizes),
            "first": (ctypes.c_int64 * (count + 1))(*first),
            "params": (ctypes.c_void_p * count)(*seen.addresses[:count]),
            "grads": (ctypes.c_void_p * count)(),
            "memory": (ctypes.c_void_p * (count * shape.slots))(*chain(*columns)),
            "scalars": (ctypes.c_double * (count * shape.scalars))(),
            "sums": (ctypes.c_double * (first[-1] * shape.sums))(),
            "shapes": (ctypes.c_double * (len(shapes) * len(SHAPE_INPUTS)))(*chain(*map(shape_values, shapes))),
        }
        for name, array in arrays.items():
            setattr(self._call, name, ctypes.addressof(array))
        self._call.tensors = count
        fitting = (
            seen.strides[:count] == seen.strides[-count:]
            and {*seen.dtypes[-count:]} == {self.kernel.grad}
            and not any(seen.grads_negated)
        )
        self._bound = _Bound(seen, [], fitting, sum(sizes), shapes, arrays, work, spread_states)
        return self._bound

    def _check(self, params: Sequence[Tensor], grads: Sequence[Tensor], memories: Sequence[Memory]) -> None:
        for param, grad, memory in zip(params, grads, memories, strict=True):
            _require(param, self.kernel.param, param.shape, "parameter")
            _require(grad, grad.dtype, param.shape, "gradient")
            if not is_dense(param):
                raise NativeUnavailable("a parameter's elements overlap or have gaps between them")
            if self.kernel.spread and param.numel() == 0:
                raise NativeUnavailable("the rule keeps rows and columns, and a parameter has no elements")
            for key, (kind, dtype) in self.kernel.types.items():
                own = dtype if kind in (Kind.UNIFORM, Kind.ELEMENTWISE) else memory[key].dtype
                _require(memory[key], own, memory_shape(kind, param.shape), f"state {key!r}")
        for param, memory in zip(params, memories, strict=True):
            for key, (kind, dtype) in self.kernel.types.items():
                if kind is Kind.ELEMENTWISE:
                    lay_out_like(memory[key], param)
                elif memory[key].dtype is not dtype:  # the parameter has been converted since
                    memory[key].data = memory[key].to(dtype)

    def _fitting(self, params: Sequence[Tensor], grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Copies of the gradients that are laid out like their parameters."""
        wanted = self.kernel.grad
        return [torch.empty_like(param, dtype=wanted).copy_(grad) for param, grad in zip(params, grads, strict=True)]


def rotate(memory: Memory, rings: Sequence[tuple[str, ...]]) -> None:
    """Give lagged buffers their names of the next step: each ring's oldest one now holds the newest value."""
    for keys in rings:
        tensors = [memory[key] for key in keys]
        memory.update(zip(keys, [tensors[-1], *tensors[:-1]], strict=True))


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory, each once, in whatever order of dimensions."""
    return tensor.is_contiguous() or bool(torch.ops.aten.is_non_overlapping_and_dense(tensor))


def _require(tensor: Tensor, dtype: torch.dtype, shape: Sequence[int], what: str) -> None:
    if tensor.device.type != "cpu":
        raise NativeUnavailable(f"a {what} is on {tensor.device}, and compiled steps run on the CPU")
    if tensor.dtype is not dtype:
        raise NativeUnavailable(f"a {what} is {tensor.dtype}, expected {dtype}")
    if tensor.shape != torch.Size(shape):
        raise NativeUnavailable(f"a {what} of shape {tuple(tensor.shape)} is not shaped like its parameter")
