"""Lowering: a program as a plan, a straight line of operations in which every value is computed once.

Adam becomes loads of ``g``, ``w`` and of the old ``m`` and ``v``, some thirty operations, and what to store. Constants
are folded, equal sub-expressions shared, dead ones dropped, and small powers made products. A division by a number
that is the same for a whole tensor, or by a value that divides several others, is made a product with its reciprocal:
at most one rounding away from the division. Generated code follows a plan line by line.

Memory is a list of rings. A state is a ring of one buffer. A signal that is read up to D steps back is a ring of D
buffers. The newest value replaces the oldest one in its buffer; the others stay where they are and only change their
names, from lag k to lag k + 1, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from closedform.lang import OPERATORS, Expr, Kind, Lag, Number, Program, Symbol, history_key, join, result_kind

SAFE_RECIPROCAL = (2.0**-100, 2.0**100)
"""A literal divisor of this size has a reciprocal in float32."""


@dataclass(frozen=True)
class Node:
    """One value of a plan.

    Attributes:
        op: An operator's name; or ``number``, ``input``, ``past`` (a ring's value), ``reciprocal``, ``pow_half``.
        args: Indices of earlier nodes.
        name: Of an input (g, w, t, T, ...) or a ring; a number in hexadecimal, which tells 0 from -0 and NaN equal to
            itself.
        lag: Steps back, 1 or more.
    """

    op: str
    args: tuple[int, ...] = ()
    name: str = ""
    lag: int = 0

    @property
    def number(self) -> float | None:
        """The value of a number; may be infinite or NaN, as folding makes them."""
        return float.fromhex(self.name) if self.op == "number" else None


@dataclass(frozen=True)
class Ring:
    """The buffers of one signal.

    Attributes:
        name: The state, or the signal looked back at.
        kind: What its values vary over.
        keys: Memory keys, from lag 1 to lag ``depth`` (`closedform.lang.memory_kinds`).
    """

    name: str
    kind: Kind
    keys: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Number of buffers."""
        return len(self.keys)


@dataclass(frozen=True)
class Plan:
    """A lowered program.

    Attributes:
        nodes: Values in order of computation.
        kinds: What each value varies over.
        levels: For each value, how many reductions it has to wait for, one after the other; 0 if none.
        rings: Memory.
        stores: Ring name -> node to store as its newest value.
        outputs: Output name -> node.
        open: Constants that are inputs, in the order in which a caller hands them over.
    """

    nodes: tuple[Node, ...]
    kinds: tuple[Kind, ...]
    levels: tuple[int, ...]
    rings: tuple[Ring, ...]
    stores: Mapping[str, int]
    outputs: Mapping[str, int]
    open: tuple[str, ...] = ()

    def needed(self, roots: list[int], stop: Callable[[int], bool]) -> list[int]:
        """Nodes that the roots depend on, in order; not looking past nodes where ``stop`` is true."""
        return _needed(self.nodes, roots, stop)


def lower(program: Program, open_constants: Sequence[str] = ()) -> Plan:
    """Lower a program; unused states and named values are dropped, states that are always equal are kept once.

    Args:
        program: The program.
        open_constants: Constants that are no numbers of the plan but inputs of it, handed over at every step.
    """
    program = program.merged
    builder = _Builder(program, tuple(open_constants))
    old = {name: builder.old(name) for name in program.state}
    new = {name: builder.build(expr, old) for name, expr in program.state.items()}
    values = dict(new)
    for name, expr in program.where.items():
        values[name] = builder.build(expr, values)
    outputs = {name: builder.build(expr, values) for name, expr in program.outputs.items()}
    stores = {ring.name: builder.build(Symbol(ring.name), values) for ring in builder.rings}
    return _finished(builder, stores, outputs)


def spread(plan: Plan) -> Plan:
    """The same plan with what is one number a row or column spread over the elements."""

    def over_elements(kind: Kind) -> Kind:
        return Kind.ELEMENTWISE if kind.varies else kind

    rings = tuple(replace(ring, kind=over_elements(ring.kind)) for ring in plan.rings)
    return replace(plan, kinds=tuple(map(over_elements, plan.kinds)), rings=rings)


def _needed(nodes: Sequence[Node], roots: Sequence[int], stop: Callable[[int], bool]) -> list[int]:
    found: set[int] = set()
    frontier = list(roots)
    while frontier:
        index = frontier.pop()
        if index not in found:
            found.add(index)
            if not stop(index):
                frontier.extend(nodes[index].args)
    return sorted(found)


def memory_rings(program: Program) -> tuple[Ring, ...]:
    """The rings of a program's memory."""
    rings = []
    for name in dict.fromkeys([*program.state, *program.histories]):
        depth = program.histories.get(name, 0)
        own = (name,) if name in program.state else ()
        first = 1 + len(own)
        keys = (*own, *(history_key(name, first + k) for k in range(depth)))
        rings.append(Ring(name, program.kinds[name], keys))
    return tuple(rings)


@dataclass
class _Builder:
    """Adds nodes, each only once, simplified as they come."""

    program: Program
    open: tuple[str, ...] = ()
    nodes: list[Node] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    index: dict[Node, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rings = memory_rings(self.program)

    def build(self, expr: Expr, values: Mapping[str, int]) -> int:
        if isinstance(expr, Number):
            return self.number(expr.value)
        if isinstance(expr, Lag):
            return self.old(expr.name) if expr.steps == 1 else self.past(expr.name, expr.steps)
        if isinstance(expr, Symbol):
            if expr.name in values:
                return values[expr.name]
            if expr.name in self.open:
                return self.add(Node("input", name=expr.name), Kind.UNIFORM)
            if expr.name in self.program.constants:
                return self.number(self.program.constants[expr.name])
            return self.add(Node("input", name=expr.name), self.program.kinds[expr.name])
        return self.operator(expr.op, *(self.build(arg, values) for arg in expr.args))

    def old(self, name: str) -> int:
        """A signal's last value; at step 1 the state's initial one, if it has one."""
        stored = self.past(name, 1)
        if name not in self.program.init:
            return stored
        later = self.operator("greater", self.build(Symbol("t"), {}), self.number(1.0))
        return self.operator("where", later, stored, self.build(self.program.init[name], {}))

    def past(self, name: str, lag: int) -> int:
        return self.add(Node("past", name=name, lag=lag), self.program.kinds[name])

    def number(self, value: float) -> int:
        return self.add(Node("number", name=float(value).hex()), Kind.UNIFORM)

    def add(self, node: Node, kind: Kind) -> int:
        if node not in self.index:
            self.index[node] = len(self.nodes)
            self.nodes.append(node)
            self.kinds.append(kind)
        return self.index[node]

    def operator(self, op: str, *args: int) -> int:
        literals = [self.nodes[arg].number for arg in args]
        numbers = [value for value in literals if value is not None]
        if len(numbers) == len(args):
            return self.number(_fold(op, numbers))
        simpler = _SIMPLER.get(op)
        found = simpler(self, *args) if simpler else None
        return self.plain(op, *args) if found is None else found

    def plain(self, op: str, *args: int) -> int:
        if op in ("add", "mul"):
            args = tuple(sorted(args))
        return self.add(Node(op, args), result_kind(op, (self.kinds[arg] for arg in args)))

    def reciprocal(self, index: int) -> int:
        value = self.nodes[index].number
        return self.plain("reciprocal", index) if value is None else self.number(_fold("div", [1.0, value]))


def _fold(op: str, values: list[float]) -> float:
    tensors = (torch.tensor(value, dtype=torch.float64) for value in values)
    return float(OPERATORS[op].torch(*tensors))


def _product(build: _Builder, x: int, y: int) -> int | None:
    for one, other in ((x, y), (y, x)):
        if build.nodes[one].number == 1.0:
            return other
        if build.nodes[one].number == -1.0:
            return build.operator("neg", other)
    return None


def _quotient(build: _Builder, x: int, y: int) -> int | None:
    value = build.nodes[y].number
    if value == 1.0:
        return x
    if value is not None and not SAFE_RECIPROCAL[0] < abs(value) < SAFE_RECIPROCAL[1]:
        return None
    wider = join((build.kinds[x], build.kinds[y])) is not build.kinds[y]
    return build.operator("mul", x, build.reciprocal(y)) if wider else None


def _difference(build: _Builder, x: int, y: int) -> int | None:
    return x if build.nodes[y].number == 0.0 else None


def _negation(build: _Builder, x: int) -> int | None:
    return build.nodes[x].args[0] if build.nodes[x].op == "neg" else None


def _square(build: _Builder, x: int) -> int:
    return build.plain("mul", x, x)


def _cube(build: _Builder, x: int) -> int:
    return build.plain("mul", x, build.plain("mul", x, x))


def _power(build: _Builder, x: int, y: int) -> int | None:
    exponent = build.nodes[y].number
    if exponent is None or abs(exponent) not in (0.5, 0.0, 1.0, 2.0, 3.0, 4.0):
        return None
    if exponent == 0.0:
        return build.number(1.0)
    square = _square(build, x)
    powers = {1: x, 2: square, 3: _cube(build, x), 4: _square(build, square)}
    result = build.plain("pow_half", x) if abs(exponent) == 0.5 else powers[round(abs(exponent))]
    return result if exponent > 0 else build.reciprocal(result)


def _signed_power(build: _Builder, x: int, y: int) -> int | None:
    exponent = build.nodes[y].number
    if exponent == 1.0:
        return x
    magnitude = _power(build, build.operator("abs", x), y)
    return None if magnitude is None else build.operator("mul", build.operator("sign", x), magnitude)


_SIMPLER: dict[str, Callable[..., int | None]] = {
    "mul": _product,
    "div": _quotient,
    "sub": _difference,
    "neg": _negation,
    "square": _square,
    "cube": _cube,
    "pow": _power,
    "spow": _signed_power,
}


def _shared_divisors(builder: _Builder, alive: list[int]) -> set[int]:
    """Divisors of several quotients, surely of a size that has a reciprocal: a magnitude plus a positive number."""
    counts: dict[int, int] = {}
    for index in alive:
        if builder.nodes[index].op == "div":
            divisor = builder.nodes[index].args[1]
            counts[divisor] = counts.get(divisor, 0) + 1
    return {divisor for divisor, count in counts.items() if count > 1 and _is_above_zero(builder, divisor)}


def _is_above_zero(builder: _Builder, index: int) -> bool:
    node = builder.nodes[index]
    if node.op != "add":
        return False
    for one, other in (node.args, node.args[::-1]):
        number = builder.nodes[one].number
        magnitude = builder.nodes[other]
        is_square = magnitude.op == "mul" and magnitude.args[0] == magnitude.args[1]
        if number is not None and number > SAFE_RECIPROCAL[0]:
            return is_square or magnitude.op in ("abs", "sqrt", "ssqrt", "exp", "relu", "pow_half")
    return False


def _finished(first: _Builder, stores: Mapping[str, int], outputs: Mapping[str, int]) -> Plan:
    """The plan of what is needed, with shared divisors inverted once."""
    alive = _needed(first.nodes, [*stores.values(), *outputs.values()], lambda _: False)
    shared = _shared_divisors(first, alive)
    second = _Builder(first.program, first.open)
    place: dict[int, int] = {}
    for old in alive:
        node = first.nodes[old]
        args = tuple(place[arg] for arg in node.args)
        if node.op == "div" and node.args[1] in shared:
            place[old] = second.operator("mul", args[0], second.reciprocal(args[1]))
        else:
            place[old] = second.add(replace(node, args=args), first.kinds[old])
    levels: list[int] = []
    for node in second.nodes:
        reduces = node.op in OPERATORS and OPERATORS[node.op].reduces
        levels.append(max((levels[arg] for arg in node.args), default=0) + reduces)
    return Plan(
        tuple(second.nodes),
        tuple(second.kinds),
        tuple(levels),
        second.rings,
        {name: place[node] for name, node in stores.items()},
        {name: place[node] for name, node in outputs.items()},
        first.open,
    )
