"""A program as a list of operations in order, each sub-expression once: what the interpreter runs at every step.

Walking expression trees costs more than the arithmetic where tensors are small. Here a program is walked once. Learned
optimizers and distillation run theirs over the same `Registers`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol
from closedform.lang._program import Program

Key = tuple[str, Any]
"""What a place holds, before any operation: what kind of thing it is, and which one of its kind."""


@dataclass(frozen=True)
class Operation:
    """``values[place] = op(values[a] for a in args)``."""

    op: str
    args: tuple[int, ...]
    place: int


@dataclass
class Registers:
    """Operations in order, each once: what all evaluators of expressions are made of.

    Attributes:
        loads: What is put into a place before the first operation -> that place.
        operations: In order; equal ones are one.
        size: Places.
    """

    loads: dict[Key, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    size: int = 0
    _done: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)

    def load(self, kind: str, which: Any) -> int:
        """The place of something that is there before any operation."""
        if (kind, which) not in self.loads:
            self.loads[kind, which] = self.new_place()
        return self.loads[kind, which]

    def loaded(self, kind: str) -> dict[Any, int]:
        """All that is there before, of one kind -> its place."""
        return {which: place for (found, which), place in self.loads.items() if found == kind}

    def apply(self, op: str, args: tuple[int, ...]) -> int:
        """The place of an operation's result."""
        if (op, args) not in self._done:
            self._done[op, args] = self.new_place()
            self.operations.append(Operation(op, args, self._done[op, args]))
        return self._done[op, args]

    def place(self, expr: Expr, leaf: Callable[[Symbol | Lag], int]) -> int:
        """The place of an expression's value, where ``leaf`` gives those of names and of their past."""
        if isinstance(expr, Number):
            return self.load("number", expr.value)
        if isinstance(expr, Apply):
            return self.apply(expr.op, tuple(self.place(arg, leaf) for arg in expr.args))
        return leaf(expr)

    def depending_on(self, kinds: Collection[str]) -> set[int]:
        """The places of what is of these kinds, and of all that depends on nothing else."""
        found = {place for (kind, _), place in self.loads.items() if kind in kinds}
        for operation in self.operations:
            if found.issuperset(operation.args):
                found.add(operation.place)
        return found

    def new_place(self) -> int:
        """A place for something more."""
        self.size += 1
        return self.size - 1


@dataclass(frozen=True)
class StraightLine:
    """A program in order.

    Attributes:
        loads: What is put into a place before the first operation -> that place: ("input", name), ("number", value),
            ("old", state) or ("lag", `Lag`).
        first: Operations that give the new states.
        states: State -> the place of its new value, before it is given the state's shape and type.
        renewed: State -> the place that its new value is read from, once shaped.
        second: Operations that give named values and outputs.
        where, outputs: Name -> place.
        size: Places.
    """

    loads: dict[Key, int]
    first: list[Operation]
    states: dict[str, int]
    renewed: dict[str, int]
    second: list[Operation]
    where: dict[str, int]
    outputs: dict[str, int]
    size: int


_KNOWN: dict[int, tuple[weakref.ref[Program], StraightLine]] = {}


def straight_line(program: Program) -> StraightLine:
    """The program in order; worked out once for every program that lives."""
    found = _KNOWN.get(id(program))
    if found is not None and found[0]() is program:
        return found[1]
    key = id(program)
    made = _ordered(program)
    _KNOWN[key] = weakref.ref(program, lambda _: _KNOWN.pop(key, None)), made
    return made


def _ordered(program: Program) -> StraightLine:
    registers = Registers()
    names = {name: registers.load("old", name) for name in program.state}  # what a name means at this point

    def leaf(node: Symbol | Lag) -> int:
        if isinstance(node, Lag):
            return registers.load("lag", node)
        return names[node.name] if node.name in names else registers.load("input", node.name)

    states = {name: registers.place(expr, leaf) for name, expr in program.state.items()}
    first = list(registers.operations)
    renewed = {name: registers.new_place() for name in program.state}
    names = dict(renewed)
    where: dict[str, int] = {}
    for name, expr in program.where.items():
        where[name] = names[name] = registers.place(expr, leaf)
    outputs = {name: registers.place(expr, leaf) for name, expr in program.outputs.items()}
    second = registers.operations[len(first) :]
    return StraightLine(registers.loads, first, states, renewed, second, where, outputs, registers.size)
