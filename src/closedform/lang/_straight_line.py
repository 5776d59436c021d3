"""A program as a list of operations in order, each sub-expression once: what the interpreter runs at every step.

Walking expression trees costs more than the arithmetic where tensors are small. Here a program is walked once.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from closedform.lang._expression import Expr, Lag, Number, Symbol
from closedform.lang._program import Program

Key = tuple[str, object]
"""What a place holds, before any operation: ("input", name), ("number", value), ("old", state) or ("lag", `Lag`)."""


@dataclass(frozen=True)
class Operation:
    """``values[place] = op(values[a] for a in args)``."""

    op: str
    args: tuple[int, ...]
    place: int


@dataclass
class StraightLine:
    """A program in order.

    Attributes:
        loads: Place -> what is put there before the first operation.
        first: Operations that give the new states.
        states: State -> the place of its new value, before it is given the state's shape and type.
        renewed: State -> the place that its new value is read from, once shaped.
        second: Operations that give named values and outputs.
        where, outputs: Name -> place.
        size: Places.
    """

    loads: dict[Key, int] = field(default_factory=dict)
    first: list[Operation] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    renewed: dict[str, int] = field(default_factory=dict)
    second: list[Operation] = field(default_factory=list)
    where: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    size: int = 0


_KNOWN: dict[int, tuple[weakref.ref[Program], StraightLine]] = {}


def straight_line(program: Program) -> StraightLine:
    """The program in order; worked out once for every program that lives."""
    found = _KNOWN.get(id(program))
    if found is not None and found[0]() is program:
        return found[1]
    key = id(program)
    made = _Builder(program).build()
    _KNOWN[key] = weakref.ref(program, lambda _: _KNOWN.pop(key, None)), made
    return made


class _Builder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.line = StraightLine()
        self.done: dict[tuple[str, tuple[int, ...]], int] = {}
        self.names: dict[str, int] = {}  # what a name means at this point, where it is not an input

    def build(self) -> StraightLine:
        program, line = self.program, self.line
        self.names = {name: self.load(("old", name)) for name in program.state}
        for name, expr in program.state.items():
            line.states[name] = self.place(expr, line.first)
        line.renewed = {name: self.new_place() for name in program.state}
        self.names = dict(line.renewed)
        for name, expr in program.where.items():
            line.where[name] = self.names[name] = self.place(expr, line.second)
        line.outputs = {name: self.place(expr, line.second) for name, expr in program.outputs.items()}
        return line

    def place(self, expr: Expr, operations: list[Operation]) -> int:
        if isinstance(expr, Number):
            return self.load(("number", expr.value))
        if isinstance(expr, Symbol):
            return self.names[expr.name] if expr.name in self.names else self.load(("input", expr.name))
        if isinstance(expr, Lag):
            return self.load(("lag", expr))
        key = expr.op, tuple(self.place(arg, operations) for arg in expr.args)
        if key not in self.done:
            self.done[key] = self.new_place()
            operations.append(Operation(*key, self.done[key]))
        return self.done[key]

    def load(self, key: Key) -> int:
        if key not in self.line.loads:
            self.line.loads[key] = self.new_place()
        return self.line.loads[key]

    def new_place(self) -> int:
        self.line.size += 1
        return self.line.size - 1
