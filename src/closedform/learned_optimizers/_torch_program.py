"""A program as a straight line of torch calls: the fast twin of ``lang.step``, for loops of thousands of small steps.

The trees are walked once. Equal sub-expressions share a register, also between recurrences and outputs, and what
depends on constants alone runs once per binding instead of once per step. Values are those of ``lang.step``.

Derivatives differ from torch's in one point. Where a root, power or logarithm has an infinite derivative at 0, it is
taken as 0: a pixel that is always black has a zero gradient, and the root of its second moment would turn the
meta-gradient of all others into NaN by 0 * infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from closedform.lang import (
    INPUTS,
    LATE_INPUTS,
    OPERATORS,
    SHAPE_INPUTS,
    Expr,
    Lag,
    Memory,
    Operation,
    Program,
    Reduce,
    Registers,
    Symbol,
    history_key,
    matrix_shape,
    newton_schulz,
    reduce_whole,
    shape_values,
)

BoundStep = Callable[[Mapping[str, Tensor], Memory, Reduce], tuple[dict[str, Tensor], Memory]]
"""(inputs, memory, reduce) -> (outputs, new memory), as ``lang.step``."""
Shape = int | tuple[int, ...]
"""Of a parameter tensor, or the length of a vector."""


def flat_derivative_at_zero(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function of (x, ...), with derivative 0 in x where x = 0."""

    def safe(x: Tensor, *rest: Tensor) -> Tensor:
        if x.dim() == 0 or not _is_differentiated(x):
            return function(x, *rest)
        zero = x == 0
        with torch.no_grad():
            there = function(x.new_zeros(()), *rest)
        return torch.where(zero, there, function(x.masked_fill(zero, 1.0), *rest))

    return safe


def _is_differentiated(x: Tensor) -> bool:
    """Whether derivatives will be taken through ``x``, in reverse or forward mode."""
    return (x.requires_grad and torch.is_grad_enabled()) or forward_ad.unpack_dual(x).tangent is not None


_SINGULAR_AT_ZERO = ("sqrt", "ssqrt", "pow", "spow", "log", "slog")
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: flat_derivative_at_zero(row.torch) if name in _SINGULAR_AT_ZERO else row.torch
    for name, row in OPERATORS.items()
}


@dataclass(frozen=True)
class _Call:
    """``registers[out] = function(*registers[args])``; ``function`` None: reduce the argument by ``name``."""

    function: Callable[..., Tensor] | None
    name: str
    args: tuple[int, ...]
    out: int


class TorchProgram:
    """A program, ready to be stepped.

    Args:
        program: The program; all of its states are kept, as in ``lang.step`` (give ``program.live`` to drop dead ones).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._registers = registers = Registers()
        read = [name for name in (*INPUTS, *LATE_INPUTS) if name in INPUTS or name in program.reads]
        names = {name: registers.load("input", name) for name in read}
        names |= {name: registers.load("constant", name) for name in program.constants}
        self._begun = {name: self._begins(name, expr, names) for name, expr in program.init.items()}
        old = names | {name: self._old(name) for name in program.state}
        new = {name: self._stored(self._compile(expr, old), name) for name, expr in program.state.items()}
        now = names | new
        for name, expr in program.where.items():
            now[name] = self._compile(expr, now)
        self._outputs = {name: self._compile(expr, now) for name, expr in program.outputs.items()}
        self._next = new | self._histories(now)
        fixed = registers.depending_on(("constant", "number"))
        calls = [_call(operation) for operation in registers.operations]
        self._once = [call for call in calls if call.out in fixed]
        self._each_step = [call for call in calls if call.out not in fixed]

    def bind(self, constants: Mapping[str, Tensor] | None = None) -> BoundStep:
        """The step for these constants (by default the program's own), which may require gradients."""
        start: list[Tensor] = [torch.empty(0)] * self._registers.size
        own = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.program.constants.items()}
        named = own | dict(constants or {})
        for name, register in self._registers.loaded("constant").items():
            start[register] = named[name]
        for number, register in self._registers.loaded("number").items():
            start[register] = torch.tensor(number, dtype=torch.float64)
        _run(self._once, start, reduce_whole)
        read, remembered = self._registers.loaded("input"), self._registers.loaded("memory")

        def step(inputs: Mapping[str, Tensor], memory: Memory, reduce: Reduce) -> tuple[dict[str, Tensor], Memory]:
            registers = start.copy()
            for name, register in read.items():
                registers[register] = inputs[name]
            for key, register in remembered.items():
                registers[register] = memory[key]
            _run(self._each_step, registers, reduce)
            outputs = {name: registers[register] for name, register in self._outputs.items()}
            return outputs, {key: registers[register] for key, register in self._next.items()}

        return step

    def _compile(self, expr: Expr, names: Mapping[str, int]) -> int:
        def leaf(node: Symbol | Lag) -> int:
            if isinstance(node, Symbol):
                return names[node.name]
            own_state = node.name in self.program.state and node.steps == 1
            return self._old(node.name) if own_state else self._remembered(history_key(node.name, node.steps))

        return self._registers.place(expr, leaf)

    def _begins(self, name: str, expr: Expr, names: Mapping[str, int]) -> int:
        """The register of a state's last value, which at step 1 is its initial one."""
        later = self._registers.apply("greater", (names["t"], self._registers.load("number", 1.0)))
        begun = self._stored(self._compile(expr, names), name)
        return self._registers.apply("where", (later, self._remembered(name), begun))

    def _old(self, name: str) -> int:
        return self._begun[name] if name in self._begun else self._remembered(name)

    def _remembered(self, key: str) -> int:
        return self._registers.load("memory", key)

    def _stored(self, value: int, key: str) -> int:
        """The register of ``value`` in the shape and type of the memory entry ``key``."""
        return self._registers.apply(_LIKE, (value, self._remembered(key)))

    def _histories(self, now: Mapping[str, int]) -> dict[str, int]:
        entries: dict[str, int] = {}
        for name, depth in self.program.histories.items():
            is_state = name in self.program.state
            newest = self._remembered(name) if is_state else now[name]
            for steps in range(1 + is_state, 1 + is_state + depth):
                key = history_key(name, steps)
                entries[key] = self._stored(newest, key)
                newest = self._remembered(key)
        return entries


def segment_reduce(shapes: Sequence[Shape]) -> Reduce:
    """Reductions per parameter tensor, for values [..., N] of tensors that lie end to end along the last dimension.

    Each result is spread over its tensor, [..., N] again; leading dimensions are populations.

    Args:
        shapes: Of the parameter tensors; a length makes a vector of its tensor.
    """
    views = [(shape,) if isinstance(shape, int) else shape for shape in shapes]
    sizes = [math.prod(view) for view in views]

    def reduce(name: str, value: Tensor) -> Tensor:
        parts = value.split(sizes, dim=-1)
        if name in _REDUCTIONS:
            found = [_REDUCTIONS[name](part).expand_as(part) for part in parts]
        else:
            found = [_of_matrix(name, part, view) for part, view in zip(parts, views, strict=True)]
        return torch.cat(found, dim=-1)

    return reduce


def segment_shapes(
    shapes: Sequence[Sequence[int]],
    dtype: torch.dtype,
    device: torch.device,
    names: Sequence[str] = tuple(SHAPE_INPUTS),
) -> dict[str, Tensor]:
    """``numel``, ``ndim``, ``fan_in``, ``fan_out`` of the tensor that each element belongs to, [N] each."""
    return _segment_shapes(tuple(map(tuple, shapes)), dtype, device, tuple(names))


@lru_cache(maxsize=64)
def _segment_shapes(
    shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, device: torch.device, names: tuple[str, ...]
) -> dict[str, Tensor]:
    sizes = torch.tensor([math.prod(shape) for shape in shapes], device=device)
    rows = torch.tensor([shape_values(shape) for shape in shapes], dtype=dtype, device=device).reshape(-1, 4)
    columns = dict(zip(SHAPE_INPUTS, rows.unbind(1), strict=True))
    return {name: columns[name].repeat_interleave(sizes) for name in names}


_safe_sqrt = flat_derivative_at_zero(torch.sqrt)
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(-1, keepdim=True),
    "rms": lambda x: _safe_sqrt(x.square().mean(-1, keepdim=True)),
    "norm": lambda x: _safe_sqrt(x.square().sum(-1, keepdim=True)),
}


def _of_matrix(name: str, x: Tensor, shape: Sequence[int]) -> Tensor:
    """A matrix operator on one tensor of this shape, [..., n]; its result is spread over it."""
    if len(shape) < 2:
        return x.mean(-1, keepdim=True).expand_as(x) if name == "col_mean" else x
    matrix = x.unflatten(-1, matrix_shape(shape))
    if name == "orthogonalise":
        return newton_schulz(matrix).flatten(-2)
    return matrix.mean(-1 if name == "row_mean" else -2, keepdim=True).expand_as(matrix).flatten(-2)


_LIKE = "like"
"""Besides the language's operators: a value in the shape and type of another."""


def _call(operation: Operation) -> _Call:
    name = operation.op
    function = _like if name == _LIKE else None if OPERATORS[name].reduces else _FUNCTIONS[name]
    return _Call(function, name, operation.args, operation.place)


def _run(calls: Sequence[_Call], registers: list[Tensor], reduce: Reduce) -> None:
    for call in calls:
        if call.function is None:
            registers[call.out] = reduce(call.name, registers[call.args[0]])
        else:
            registers[call.out] = call.function(*[registers[arg] for arg in call.args])


def _like(value: Tensor, stored: Tensor) -> Tensor:
    if value.dtype == stored.dtype and value.shape == stored.shape:
        return value
    return value.to(stored.dtype).expand_as(stored)
