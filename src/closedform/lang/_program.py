"""Programs: state recurrences, named values and outputs, written over the inputs of one training step.

Time is explicit. At step t the inputs are ``g`` (gradient), ``w`` (parameter) and ``t`` (1, 2, ...):

    state     m_t = f(inputs_t, all states at t-1)
    where     u_t = f(inputs_t, all states at t, earlier named values at t)
    outputs   y_t = f(inputs_t, all states at t, all named values at t)

``lag(x, k)`` is x_{t-k} everywhere, 0 before the start; ``prev(x)`` is x_{t-1}. So inside a state's expression ``m``
and ``prev(m)`` are the same, and in the update they are the new and the old momentum (Lion needs both).

A rule is a program with the one output ``update``; the input features of a learned optimizer are programs too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from closedform._document import shown
from closedform.errors import ExpressionError
from closedform.lang._expression import (
    Apply,
    Expr,
    Lag,
    Number,
    Symbol,
    complexity,
    lags,
    names,
    rename,
    substitute,
    walk,
)
from closedform.lang._operators import FUNCTIONS, OPERATORS

INPUTS = {"g": "gradient", "w": "parameter", "t": "step, 1 2 3 ..."}
RESERVED = frozenset({*INPUTS, *FUNCTIONS, "lag", "prev", "lr", "step"})
MAX_ENTRIES = 512
"""States, named values and constants that one program may have, each."""
MAX_NODES = 20_000
"""Nodes of all expressions of one program."""
MAX_BUFFERS = 1024
"""Buffers a parameter that one program may ask for."""


class Kind(IntEnum):
    """What a value varies over; an operator's result has the largest kind of its arguments."""

    UNIFORM = 0
    """The same for all parameters with the same step: made of constants and t."""
    PER_TENSOR = 1
    """One number a parameter tensor: a reduction, and what is made of it."""
    ELEMENTWISE = 2
    """One number a parameter."""


@dataclass(frozen=True)
class Program:
    """Recurrences, named values and outputs; validated on construction.

    Attributes:
        constants: Named constants, finite floats.
        state: Name -> recurrence; every state is 0 before step 1.
        where: Name -> value; each may use those before it.
        outputs: Name -> value.

    Raises:
        ExpressionError: names clash, are unknown, not identifiers, or there are too many; names the place.
    """

    constants: Mapping[str, float] = field(default_factory=dict)
    state: Mapping[str, Expr] = field(default_factory=dict)
    where: Mapping[str, Expr] = field(default_factory=dict)
    outputs: Mapping[str, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_names(self)
        _check_size(self)
        _check_references(self)
        if self.buffers > MAX_BUFFERS:
            raise ExpressionError(f"the program needs {self.buffers} buffers a parameter; the limit is {MAX_BUFFERS}")

    @cached_property
    def live(self) -> Program:
        """The same outputs without the constants, states and named values that no output depends on."""
        used = self._reachable()
        return Program(
            {name: value for name, value in self.constants.items() if name in used},
            {name: expr for name, expr in self.state.items() if name in used},
            {name: expr for name, expr in self.where.items() if name in used},
            dict(self.outputs),
        )

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of every name: inputs, constants, states and named values."""
        return _infer_kinds(self)

    @cached_property
    def histories(self) -> dict[str, int]:
        """Stored past values: signal -> depth. A state's own last value is its state, so it is not counted here.

        ``lag(g, 3)`` keeps three gradients; ``lag(m, 3)`` of a state keeps two past values besides ``m`` itself.
        """
        deepest: dict[str, int] = {}
        for expr in self.expressions():
            for name, steps in lags(expr).items():
                extra = steps - 1 if name in self.state else steps
                deepest[name] = max(deepest.get(name, 0), extra)
        return {name: steps for name, steps in deepest.items() if steps > 0}

    @cached_property
    def merged(self) -> Program:
        """An equal program in which live states that always hold the same value are kept once."""
        return _merge_states(self.live)

    @cached_property
    def buffers(self) -> int:
        """Elementwise buffers that this program keeps, as it is written (see `state_cost`)."""
        states = sum(1 for name in self.state if self.kinds[name] is Kind.ELEMENTWISE)
        return states + sum(k for name, k in self.histories.items() if self.kinds[name] is Kind.ELEMENTWISE)

    @property
    def state_cost(self) -> int:
        """Buffers a parameter: live states and lagged values, shared ones counted once, scalars not at all."""
        return self.merged.buffers

    @property
    def complexity(self) -> int:
        """Nodes of all live expressions."""
        return sum(complexity(expr) for expr in self.live.expressions())

    def expressions(self) -> Iterator[Expr]:
        """All expressions: states, named values, outputs."""
        yield from self.state.values()
        yield from self.where.values()
        yield from self.outputs.values()

    def with_constants(self, values: Mapping[str, float]) -> Program:
        """The same program with other values for some constants.

        Raises:
            ExpressionError: a name is not a constant of this program.
        """
        for name in values:
            if name not in self.constants:
                raise ExpressionError(f"unknown constant {name!r} (known: {', '.join(self.constants) or 'none'})")
        return Program({**self.constants, **values}, self.state, self.where, self.outputs)

    def _reachable(self) -> set[str]:
        definitions = {**self.state, **self.where}
        used: set[str] = set()
        frontier = [name for expr in self.outputs.values() for name in (*names(expr), *lags(expr))]
        while frontier:
            name = frontier.pop()
            if name not in used:
                used.add(name)
                if name in definitions:
                    frontier.extend((*names(definitions[name]), *lags(definitions[name])))
        return used


def kind_of(expr: Expr, kinds: Mapping[str, Kind]) -> Kind:
    """The kind of an expression, given the kinds of the names in it."""
    if isinstance(expr, Number):
        return Kind.UNIFORM
    if isinstance(expr, (Symbol, Lag)):
        return kinds.get(expr.name, Kind.UNIFORM)
    if OPERATORS[expr.op].reduces:
        return Kind.PER_TENSOR
    return max(kind_of(arg, kinds) for arg in expr.args)


def _infer_kinds(program: Program) -> dict[str, Kind]:
    kinds = dict.fromkeys(program.constants, Kind.UNIFORM)
    kinds |= {"g": Kind.ELEMENTWISE, "w": Kind.ELEMENTWISE, "t": Kind.UNIFORM}
    readers: dict[str, list[str]] = {}
    for name, expr in {**program.state, **program.where}.items():
        read, kinds[name] = _exposed(expr)
        for one in read:
            readers.setdefault(one, []).append(name)
    pending = list(kinds)
    while pending:  # kinds only grow, so this ends
        grown = pending.pop()
        for name in readers.get(grown, ()):
            if kinds[grown] > kinds[name]:
                kinds[name] = kinds[grown]
                pending.append(name)
    return kinds


def _exposed(expr: Expr) -> tuple[set[str], Kind]:
    """What an expression's kind depends on: the names outside its reductions, and the kind of those reductions."""
    read, kind, stack = set[str](), Kind.UNIFORM, [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, (Symbol, Lag)):
            read.add(node.name)
        elif isinstance(node, Apply) and OPERATORS[node.op].reduces:
            kind = Kind.PER_TENSOR
        elif isinstance(node, Apply):
            stack.extend(node.args)
    return read, kind


def _check_names(program: Program) -> None:
    seen: dict[str, str] = {}
    for section in ("constants", "state", "where"):
        entries: Mapping[str, object] = getattr(program, section)
        if len(entries) > MAX_ENTRIES:
            raise ExpressionError(f"{section}: {len(entries)} entries; the limit is {MAX_ENTRIES}")
        for name in entries:
            if not (name.isidentifier() and name.isascii()) or len(name) > 64:
                raise ExpressionError(
                    f"{section} {shown(name)}: a name must be an ASCII identifier of at most 64 characters"
                )
            if name in RESERVED or name.startswith("cf_"):
                raise ExpressionError(
                    f'{section} "{name}": this name is reserved (reserved: {", ".join(sorted(RESERVED))})'
                )
            if name in seen:
                raise ExpressionError(f'{section} "{name}": already defined in {seen[name]}')
            seen[name] = section
    for name, value in program.constants.items():
        Number(value)  # refuses NaN and infinity
        if isinstance(value, bool):
            raise ExpressionError(f'constant "{name}" must be a number')


def _check_size(program: Program) -> None:
    nodes = sum(complexity(expr) for expr in program.expressions())
    if nodes > MAX_NODES:
        raise ExpressionError(f"the program has {nodes} nodes; the limit is {MAX_NODES}")


def _check_references(program: Program) -> None:
    base = {*INPUTS, *program.constants, *program.state}
    signals = {*INPUTS, *program.state, *program.where} - {"t"}
    for name, expr in program.state.items():
        _check_expression(f'state "{name}"', expr, base, signals, later=program.where)
    known = set(base)
    for name, expr in program.where.items():
        _check_expression(f'where "{name}"', expr, known, signals, later=program.where)
        known.add(name)
    for name, expr in program.outputs.items():
        _check_expression(name, expr, known, signals, later={})
    for place, expr in _places(program):
        for node in walk(expr):
            if isinstance(node, Apply) and OPERATORS[node.op].reduces and not _varies(node.args[0], program):
                raise ExpressionError(f"{place}: {node.op} needs a value that varies over the parameter tensor")


def _places(program: Program) -> Iterator[tuple[str, Expr]]:
    yield from ((f'state "{name}"', expr) for name, expr in program.state.items())
    yield from ((f'where "{name}"', expr) for name, expr in program.where.items())
    yield from program.outputs.items()


def _varies(expr: Expr, program: Program) -> bool:
    return kind_of(expr, program.kinds) is Kind.ELEMENTWISE


def _check_expression(place: str, expr: Expr, known: set[str], signals: set[str], later: Iterable[str]) -> None:
    for node in walk(expr):
        if isinstance(node, Symbol) and node.name not in known:
            if node.name in later:
                where = "a state cannot use it" if place.startswith("state") else "define it before its use"
                raise ExpressionError(f"{place}: \"{node.name}\" is a named value of 'where'; {where}")
            raise ExpressionError(f'{place}: unknown name "{node.name}" ({_known(node.name, known)})')
        if isinstance(node, Lag) and node.name not in signals:
            raise ExpressionError(f'{place}: cannot look back at "{node.name}" ({_known(node.name, signals)})')


def _known(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(sorted(known))}"


def _merge_states(program: Program) -> Program:
    """Merge states with equal recurrences up to names (constants by value), until nothing changes."""
    plain = {name: substitute(expr, program.constants) for name, expr in program.state.items()}
    readers: dict[str, list[str]] = {}
    for name, expr in plain.items():
        for read in {*names(expr), *lags(expr)} & plain.keys():
            readers.setdefault(read, []).append(name)
    representative = {name: name for name in plain}
    keys: dict[str, str] = {}
    changed = set(plain)
    while changed:  # only what reads a state that was merged can have become equal to another
        for name in changed:
            keys[name] = repr(rename(plain[name], {**representative, name: "_self"}))
        merged = _first_of_each(keys, representative)
        gone = [name for name, kept in merged.items() if kept != representative[name]]
        representative = merged
        changed = {name for one in gone for name in readers.get(one, ()) if representative[name] == name}
    if all(name == kept for name, kept in representative.items()):
        return program
    kept = {name: rename(expr, representative) for name, expr in program.state.items() if representative[name] == name}
    return Program(
        program.constants,
        kept,
        {name: rename(expr, representative) for name, expr in program.where.items()},
        {name: rename(expr, representative) for name, expr in program.outputs.items()},
    )


def _first_of_each(keys: Mapping[str, str], representative: Mapping[str, str]) -> dict[str, str]:
    """Every state's representative, once those that have equal keys are one: the first of them."""
    seen: dict[str, str] = {}
    merged = {
        name: seen.setdefault(keys[name], name) if kept == name else kept for name, kept in representative.items()
    }
    return {name: merged[kept] for name, kept in merged.items()}
