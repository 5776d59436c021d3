"""A step in torch's operations: what a step is made of, and the two ways to compute it without generated code.

``reference`` runs the interpreter on one tensor at a time: what the rule means. ``eager`` runs the same program on
flat blocks: many small tensors at once, large tensors in pieces that stay in cache.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.lang import (
    Kind,
    Lag,
    Memory,
    Program,
    Reduce,
    Symbol,
    horizon_inputs,
    memory_kinds,
    memory_shape,
    reduce_whole,
    shape_inputs,
    step,
)
from closedform.optim._noise import Noise

BLOCK = 1 << 16
"""Elements of a flat block on the CPU: temporaries of this size stay in the second-level cache."""


@dataclass(frozen=True)
class Slot:
    """One parameter with its gradient and the rule's memory; a step changes ``param`` and ``memory`` in place.

    Attributes:
        param, grad: Tensors of one shape, type and device.
        memory: State name -> tensor, shaped like ``param``, scalar, or one number a row or column.
        reduce: How mean, rms and norm reduce a tensor of this shape; another way if it is a shard of a larger one.
        shape: Of the whole parameter, of which ``param`` may be a shard; None: it is the whole.
    """

    param: Tensor
    grad: Tensor
    memory: Memory
    reduce: Reduce = reduce_whole
    shape: Sequence[int] | None = None


@dataclass(frozen=True)
class Cohort:
    """Parameters that take the same step: of one group, one type and on one device.

    Attributes:
        params, grads: Tensors; a gradient has its parameter's shape.
        memories: For each parameter its memory; entries that are not the program's do not matter.
        reduces: For each how it is reduced (see `Slot`); None if all are whole.
        shapes: For each its whole shape (see `Slot`); None if all are whole.
    """

    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    memories: Sequence[Memory]
    reduces: Sequence[Reduce] | None = None
    shapes: Sequence[Sequence[int]] | None = None

    @property
    def whole_shapes(self) -> Sequence[Sequence[int]]:
        """The shapes of the whole parameters."""
        return [param.shape for param in self.params] if self.shapes is None else self.shapes

    def slots(self, program: Program) -> list[Slot]:
        """The same, one parameter at a time, for a program."""
        keys = memory_kinds(program)
        reduces = self.reduces or [reduce_whole] * len(self.params)
        rows = zip(self.params, self.grads, self.memories, reduces, self.whole_shapes, strict=True)
        return [
            Slot(param, grad, {key: memory[key] for key in keys}, reduce, shape)
            for param, grad, memory, reduce, shape in rows
        ]


@dataclass(frozen=True)
class Settings:
    """What a step needs besides tensors.

    Attributes:
        t: Number of this step, from 1; a scalar tensor on the parameters' device if nothing may wait for the device.
        lr: Learning rate, a float or a scalar tensor.
        weight_decay: Decoupled weight decay (update per unit of parameter).
        maximize: Ascend instead of descend.
        noise: If given, bfloat16 states are rounded stochastically with it.
        total_steps: T; None if no rule asks for it.
        open_constants: Names of constants that change from step to step: compiled code must not contain their values.
    """

    t: float | Tensor
    lr: float | Tensor
    weight_decay: float
    maximize: bool
    noise: Noise | None = None
    total_steps: int | None = None
    open_constants: tuple[str, ...] = ()


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half-precision parameters are updated in float32; others in their own type."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def new_memory(
    program: Program, param: Tensor, state_dtype: torch.dtype | None = None, *, capturable: bool = False
) -> Memory:
    """Zeros for every memory entry: like the parameter, or less for what is one number a tensor, row or column.

    What is the same for all parameters (a power of a decay) is kept on the CPU, or on the device if ``capturable``.
    """

    def zeros(kind: Kind) -> Tensor:
        if kind is Kind.ELEMENTWISE:
            return torch.zeros_like(param, dtype=state_dtype, memory_format=torch.preserve_format)
        uniform = kind is Kind.UNIFORM
        dtype = torch.float64 if uniform else compute_dtype(param.dtype)
        device = "cpu" if uniform and not capturable else param.device
        return torch.zeros(memory_shape(kind, param.shape), dtype=dtype, device=device)

    return {key: zeros(kind) for key, kind in memory_kinds(program).items()}


def reference(program: Program, slots: Sequence[Slot], settings: Settings) -> None:
    """One tensor at a time, by the reference interpreter."""
    for slot in slots:
        shape = slot.param.shape or (1,)  # a scalar parameter must not pass for a uniform number
        dtype = compute_dtype(slot.param.dtype)
        grad, param = (tensor.to(dtype).reshape(shape) for tensor in (slot.grad, slot.param))
        kinds = memory_kinds(program)
        memory = {key: value.reshape(memory_shape(kinds[key], shape)) for key, value in slot.memory.items()}
        whole = slot.param.shape if slot.shape is None else slot.shape
        moved, new = _advance(program, grad, param, _to(memory, dtype, program), settings, slot.reduce, whole)
        _store(program, slot, moved, new, settings)


def eager(program: Program, slots: Sequence[Slot], settings: Settings) -> None:
    """On flat blocks: small tensors joined, large ones cut into pieces that stay in cache.

    A rule that looks at whole tensors or their shapes takes tensors of one shape together, stacked.
    """
    if program.reduces or program.needs_shapes:
        for alike in _alike(slots):
            (_step_stacked if len(alike) > 1 else reference)(program, alike, settings)
        return
    for batch in _batches(slots):
        if len(batch) == 1 and _is_flat(batch[0]):
            for piece in _pieces(batch[0]):
                _step_flat(program, piece, settings)
        else:
            _step_joined(program, batch, settings)


def _advance(
    program: Program,
    grad: Tensor,
    param: Tensor,
    memory: Memory,
    settings: Settings,
    reduce: Reduce = reduce_whole,
    shape: Sequence[int] = (),
) -> tuple[Tensor, Memory]:
    t = torch.as_tensor(settings.t, dtype=torch.float64)
    inputs = {"g": -grad if settings.maximize else grad, "w": param, "t": t}
    if settings.total_steps is not None:
        inputs |= horizon_inputs(t, settings.total_steps)
    if program.needs_shapes:
        inputs |= shape_inputs(shape)
    outputs, new = step(program, inputs, memory, reduce=reduce)
    update = outputs["update"]
    if settings.weight_decay:
        update = update - settings.weight_decay * param
    return param + settings.lr * update, new


def _step_flat(program: Program, slot: Slot, settings: Settings) -> None:
    dtype = compute_dtype(slot.param.dtype)
    moved, new = _advance(
        program, slot.grad.to(dtype), slot.param.to(dtype), _to(slot.memory, dtype, program), settings
    )
    _store(program, slot, moved, new, settings)


def _store(program: Program, slot: Slot, moved: Tensor, new: Memory, settings: Settings) -> None:
    """Write results back; a lag's new value is the very storage of an older one, or of the parameter."""
    if program.histories or any(isinstance(expr, (Symbol, Lag)) for expr in program.state.values()):
        new = {key: value.clone() for key, value in new.items()}
    for key, value in new.items():
        stored = slot.memory[key]
        stored.copy_(_rounded(value, stored.dtype, settings).reshape(stored.shape))
    slot.param.copy_(moved.reshape(slot.param.shape))


def _step_joined(program: Program, slots: Sequence[Slot], settings: Settings) -> None:
    dtype = compute_dtype(slots[0].param.dtype)
    kinds = memory_kinds(program)
    joined = Slot(
        _join((slot.param for slot in slots), dtype),
        _join((slot.grad for slot in slots), dtype),
        {
            key: _join((slot.memory[key] for slot in slots), dtype)
            if kind is Kind.ELEMENTWISE
            else slots[0].memory[key].clone()
            for key, kind in kinds.items()
        },
    )
    _step_flat(program, joined, settings)
    _spread(joined.param, [slot.param for slot in slots])
    for key, kind in kinds.items():
        targets = [slot.memory[key] for slot in slots]
        if kind is Kind.ELEMENTWISE:
            _spread(_rounded(joined.memory[key], targets[0].dtype, settings), targets)
        else:
            for target in targets:
                target.copy_(joined.memory[key])


def _rounded(value: Tensor, dtype: torch.dtype, settings: Settings) -> Tensor:
    """As it is to be stored: to bfloat16 stochastically if asked for."""
    if settings.noise is None or dtype is not torch.bfloat16:
        return value
    return settings.noise.rounded(value)


def _alike(slots: Sequence[Slot]) -> Iterable[list[Slot]]:
    """Whole tensors of one shape together, as far as that pays; every other tensor alone."""
    found: dict[Hashable, list[Slot]] = {}
    for place, slot in enumerate(slots):
        on_cpu = slot.param.device.type == "cpu"
        stackable = slot.reduce is reduce_whole and not (on_cpu and slot.param.numel() >= BLOCK)
        types = (slot.param.dtype, *(value.dtype for value in slot.memory.values()))
        found.setdefault((slot.param.shape, slot.shape, types) if stackable else place, []).append(slot)
    return found.values()


def _step_stacked(program: Program, slots: Sequence[Slot], settings: Settings) -> None:
    """The reference on tensors of one shape side by side, [K, ...]."""
    first = slots[0]
    dtype, shape = compute_dtype(first.param.dtype), first.param.shape or (1,)
    whole = first.param.shape if first.shape is None else first.shape
    kinds = memory_kinds(program)
    own = {key: memory_shape(kind, shape) for key, kind in kinds.items() if kind is not Kind.UNIFORM}
    shared = {key: first.memory[key] for key, kind in kinds.items() if kind is Kind.UNIFORM}

    def advance(grad: Tensor, param: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return _advance(program, grad, param, {**memory, **shared}, settings, shape=whole)

    def stacked(tensors: Iterable[Tensor], like: Sequence[int]) -> Tensor:
        return torch.stack([tensor.to(dtype).reshape(tuple(like)) for tensor in tensors])

    moved, new = torch.vmap(advance)(
        stacked((slot.grad for slot in slots), shape),
        stacked((slot.param for slot in slots), shape),
        {key: stacked((slot.memory[key] for slot in slots), like) for key, like in own.items()},
    )
    _unstack(moved, [slot.param for slot in slots])
    for key, value in new.items():
        targets = [slot.memory[key] for slot in slots]
        _unstack(_rounded(value, targets[0].dtype, settings), targets)


def _unstack(rows: Tensor, targets: list[Tensor]) -> None:
    parts = zip(rows.unbind(0), targets, strict=True)
    torch._foreach_copy_(targets, [part.reshape(target.shape) for part, target in parts])


def _join(tensors: Iterable[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors])


def _spread(flat: Tensor, targets: list[Tensor]) -> None:
    parts = torch.split(flat, [target.numel() for target in targets])
    torch._foreach_copy_(targets, [part.view(target.shape) for part, target in zip(parts, targets, strict=True)])


def _batches(slots: Sequence[Slot]) -> Iterator[list[Slot]]:
    """Large tensors alone, small ones together up to a block."""
    batch: list[Slot] = []
    filled = 0
    for slot in slots:
        count = slot.param.numel()
        if count >= BLOCK:
            yield [slot]
            continue
        if filled + count > BLOCK:
            yield batch
            batch, filled = [], 0
        batch.append(slot)
        filled += count
    if batch:
        yield batch


def _pieces(slot: Slot) -> Iterator[Slot]:
    """Views of a contiguous tensor: pieces of a block on the CPU, the whole on a device with its own scheduler."""
    size = BLOCK if slot.param.device.type == "cpu" else slot.param.numel()
    elementwise = {key for key, value in slot.memory.items() if value.shape == slot.param.shape}
    scalars = {key: value for key, value in slot.memory.items() if key not in elementwise}
    before = {key: value.clone() for key, value in scalars.items()}
    flat = {key: slot.memory[key].view(-1).split(size) for key in elementwise}
    params, grads = slot.param.view(-1).split(size), slot.grad.view(-1).split(size)
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        for key, value in before.items():  # every piece starts from the same scalars
            scalars[key].copy_(value)
        yield Slot(param, grad, {**{key: flat[key][index] for key in elementwise}, **scalars})


def _is_flat(slot: Slot) -> bool:
    tensors = (slot.param, slot.grad, *(value for value in slot.memory.values() if value.dim()))
    return slot.param.dim() > 0 and all(tensor.is_contiguous() for tensor in tensors)


def _to(memory: Memory, dtype: torch.dtype, program: Program) -> Memory:
    kinds = memory_kinds(program)
    return {key: value if kinds[key] is Kind.UNIFORM else value.to(dtype) for key, value in memory.items()}
