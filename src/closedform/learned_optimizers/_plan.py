"""A program as a straight line of torch calls: the fast twin of ``lang.step``, for loops of thousands of small steps.

The trees are walked once. Equal sub-expressions share a register, also between recurrences and outputs, and what
depends on constants alone runs once per binding instead of once per step. Values are those of ``lang.step``.

Derivatives differ from torch's in one point. Where a root, power or logarithm has an infinite derivative at 0, it is
taken as 0: a pixel that is always black has a zero gradient, and the root of its second moment would turn the
meta-gradient of all others into NaN by 0 * infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd import forward_ad

from closedform.lang import (
    INPUTS,
    OPERATORS,
    Expr,
    Lag,
    Memory,
    Number,
    Program,
    Reduce,
    Symbol,
    history_key,
    reduce_whole,
)

BoundStep = Callable[[Mapping[str, Tensor], Memory, Reduce], tuple[dict[str, Tensor], Memory]]
"""(inputs, memory, reduce) -> (outputs, new memory), as ``lang.step``."""


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


@dataclass
class _Lines:
    """Registers and calls under construction."""

    constants: dict[str | float, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    once: list[_Call] = field(default_factory=list)
    each_step: list[_Call] = field(default_factory=list)
    results: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    """Registers of what depends on constants alone."""
    count: int = 0

    def leaf(self, table: dict, key: str | float) -> int:
        if key not in table:
            table[key] = self._new(table is self.constants)
        return table[key]

    def call(self, name: str, function: Callable[..., Tensor] | None, args: tuple[int, ...]) -> int:
        if (name, args) not in self.results:
            fixed = self.fixed.issuperset(args)
            out = self.results[name, args] = self._new(fixed)
            (self.once if fixed else self.each_step).append(_Call(function, name, args, out))
        return self.results[name, args]

    def _new(self, fixed: bool) -> int:
        register, self.count = self.count, self.count + 1
        if fixed:
            self.fixed.add(register)
        return register


class Plan:
    """A program, ready to be stepped.

    Args:
        program: The program; all of its states are kept, as in ``lang.step`` (give ``program.live`` to drop dead ones).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._lines = _Lines()
        names = {name: self._lines.leaf(self._lines.constants, name) for name in program.constants}
        names |= {name: self._lines.leaf(self._lines.inputs, name) for name in INPUTS}
        old = names | {name: self._remembered(name) for name in program.state}
        new = {name: self._stored(self._compile(expr, old), name) for name, expr in program.state.items()}
        now = names | new
        for name, expr in program.where.items():
            now[name] = self._compile(expr, now)
        self._outputs = {name: self._compile(expr, now) for name, expr in program.outputs.items()}
        self._next = new | self._histories(now)

    def bind(self, constants: Mapping[str, Tensor] | None = None) -> BoundStep:
        """The step for these constants (by default the program's own), which may require gradients."""
        lines = self._lines
        start: list[Tensor] = [torch.empty(0)] * lines.count
        own = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.program.constants.items()}
        named = own | dict(constants or {})
        for key, register in lines.constants.items():
            start[register] = named[key] if isinstance(key, str) else torch.tensor(key, dtype=torch.float64)
        _run(lines.once, start, reduce_whole)

        def step(inputs: Mapping[str, Tensor], memory: Memory, reduce: Reduce) -> tuple[dict[str, Tensor], Memory]:
            registers = start.copy()
            for name, register in lines.inputs.items():
                registers[register] = inputs[name]
            for key, register in lines.memory.items():
                registers[register] = memory[key]
            _run(lines.each_step, registers, reduce)
            outputs = {name: registers[register] for name, register in self._outputs.items()}
            return outputs, {key: registers[register] for key, register in self._next.items()}

        return step

    def _compile(self, expr: Expr, names: Mapping[str, int]) -> int:
        if isinstance(expr, Number):
            return self._lines.leaf(self._lines.constants, expr.value)
        if isinstance(expr, Symbol):
            return names[expr.name]
        if isinstance(expr, Lag):
            own_state = expr.name in self.program.state and expr.steps == 1
            return self._remembered(expr.name if own_state else history_key(expr.name, expr.steps))
        args = tuple(self._compile(arg, names) for arg in expr.args)
        return self._lines.call(expr.op, None if OPERATORS[expr.op].reduces else _FUNCTIONS[expr.op], args)

    def _remembered(self, key: str) -> int:
        return self._lines.leaf(self._lines.memory, key)

    def _stored(self, value: int, key: str) -> int:
        """The register of ``value`` in the shape and type of the memory entry ``key``."""
        return self._lines.call("like", _like, (value, self._remembered(key)))

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


def segment_reduce(sizes: Sequence[int]) -> Reduce:
    """Reductions per parameter tensor, for parameters that lie end to end: each result is spread over its tensor.

    Args:
        sizes: Lengths of the parameter tensors.
    """

    def reduce(name: str, value: Tensor) -> Tensor:
        return torch.cat([_REDUCTIONS[name](part).expand_as(part) for part in value.split(list(sizes))])

    return reduce


_safe_sqrt = flat_derivative_at_zero(torch.sqrt)
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(),
    "rms": lambda x: _safe_sqrt(x.square().mean().reshape(1)),
    "norm": lambda x: _safe_sqrt(x.square().sum().reshape(1)),
}


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
