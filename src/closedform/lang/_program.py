"""Programs: state recurrences, named values and outputs, written over the inputs of one training step.

Time is explicit. At step t the inputs are ``g`` (gradient), ``w`` (parameter) and ``t`` (1, 2, ...):

    state     m_t = f(inputs_t, all states at t-1)
    where     u_t = f(inputs_t, all states at t, earlier named values at t)
    outputs   y_t = f(inputs_t, all states at t, all named values at t)

``lag(x, k)`` is x_{t-k} everywhere, 0 before the start; ``prev(x)`` is x_{t-1}. So inside a state's expression ``m``
and ``prev(m)`` are the same, and in the update they are the new and the old momentum (Lion needs both).

Before step 1 a state is 0, or the value of its ``init`` section, an expression over the inputs of step 1: Schedule-Free
starts at ``w``. Further inputs are the horizon, ``T`` and ``progress``, and the tensor's ``numel ndim fan_in fan_out``.

A rule is a program with the one output ``update``; the input features of a learned optimizer are programs too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from closedform.errors import ExpressionError
from closedform.lang._expression import (
    Apply,
    Expr,
    Number,
    complexity,
    lags,
    names,
    rename,
    substitute,
    walk,
)
from closedform.lang._inputs import HORIZON_INPUTS, INPUTS, LATE_INPUTS, SHAPE_INPUTS
from closedform.lang._kinds import Kind, exposed, join
from closedform.lang._operators import OPERATORS
from closedform.lang._program_checks import MAX_BUFFERS, check_names, check_references, check_size


@dataclass(frozen=True)
class Program:
    """Recurrences, named values and outputs; validated on construction.

    Attributes:
        constants: Named constants, finite floats.
        state: Name -> recurrence.
        where: Name -> value; each may use those before it.
        outputs: Name -> value.
        init: Name of a state -> its old value at step 1, over inputs and constants; 0 for those that are not here.

    Raises:
        ExpressionError: names clash, are unknown, not identifiers, or there are too many; names the place.
    """

    constants: Mapping[str, float] = field(default_factory=dict)
    state: Mapping[str, Expr] = field(default_factory=dict)
    where: Mapping[str, Expr] = field(default_factory=dict)
    outputs: Mapping[str, Expr] = field(default_factory=dict)
    init: Mapping[str, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self)
        check_size(self)
        check_references(self)
        needed = self.buffers + self.factored
        if needed > MAX_BUFFERS:
            raise ExpressionError(f"the program needs {needed} buffers a parameter; the limit is {MAX_BUFFERS}")

    @cached_property
    def live(self) -> Program:
        """The same outputs without the constants, states and named values that no output depends on."""
        used = self._reachable()
        return Program(
            {name: value for name, value in self.constants.items() if name in used},
            {name: expr for name, expr in self.state.items() if name in used},
            {name: expr for name, expr in self.where.items() if name in used},
            dict(self.outputs),
            {name: expr for name, expr in self.init.items() if name in used},
        )

    @cached_property
    def reads(self) -> frozenset[str]:
        """The inputs that the program reads."""
        own = {*self.constants, *self.state, *self.where}
        used = {name for expr in self.expressions() for name in (*names(expr), *lags(expr))}
        return frozenset((used & {*INPUTS, *LATE_INPUTS}) - own)

    @property
    def needs_total_steps(self) -> bool:
        """Whether it reads ``T`` or ``progress``."""
        return not self.reads.isdisjoint(HORIZON_INPUTS)

    @property
    def needs_shapes(self) -> bool:
        """Whether it reads ``numel``, ``ndim``, ``fan_in`` or ``fan_out``."""
        return not self.reads.isdisjoint(SHAPE_INPUTS)

    @cached_property
    def operators(self) -> frozenset[str]:
        """Names of the operators in it."""
        return frozenset(node.op for expr in self.expressions() for node in walk(expr) if isinstance(node, Apply))

    @property
    def reduces(self) -> bool:
        """Whether elements of a tensor depend on each other."""
        return any(OPERATORS[name].reduces for name in self.operators)

    @property
    def matrix_operators(self) -> frozenset[str]:
        """Names of the operators in it that look at rows, columns or the whole matrix."""
        return frozenset(name for name in self.operators if OPERATORS[name].late)

    @property
    def level(self) -> int:
        """The format of rule files that it needs: 2 with late inputs, matrix operators or initial values, else 1."""
        return 2 if self.init or self.matrix_operators or self.reads & LATE_INPUTS.keys() else 1

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
        return self._entries(Kind.ELEMENTWISE)

    @property
    def factored(self) -> int:
        """Memory entries of one number a row or a column; they cost less than a buffer and count nothing as such."""
        return self._entries(Kind.ROWWISE) + self._entries(Kind.COLUMNWISE)

    def _entries(self, kind: Kind) -> int:
        states = sum(1 for name in self.state if self.kinds[name] is kind)
        return states + sum(k for name, k in self.histories.items() if self.kinds[name] is kind)

    @property
    def state_cost(self) -> int:
        """Buffers a parameter: live states and lagged values, shared ones counted once, scalars not at all."""
        return self.merged.buffers

    @property
    def complexity(self) -> int:
        """Nodes of all live expressions."""
        return sum(complexity(expr) for expr in self.live.expressions())

    def expressions(self) -> Iterator[Expr]:
        """All expressions: initial values, states, named values, outputs."""
        yield from self.init.values()
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
        return Program({**self.constants, **values}, self.state, self.where, self.outputs, self.init)

    def _reachable(self) -> set[str]:
        definitions = {**self.state, **self.where}
        used: set[str] = set()
        frontier = [name for expr in self.outputs.values() for name in (*names(expr), *lags(expr))]
        while frontier:
            name = frontier.pop()
            if name not in used:
                used.add(name)
                for expr in (definitions.get(name), self.init.get(name)):
                    if expr is not None:
                        frontier.extend((*names(expr), *lags(expr)))
        return used


def _infer_kinds(program: Program) -> dict[str, Kind]:
    kinds = {"g": Kind.ELEMENTWISE, "w": Kind.ELEMENTWISE, "t": Kind.UNIFORM}
    kinds |= dict.fromkeys(HORIZON_INPUTS.keys() & program.reads, Kind.UNIFORM)
    kinds |= dict.fromkeys(SHAPE_INPUTS.keys() & program.reads, Kind.PER_TENSOR)
    kinds |= dict.fromkeys(program.constants, Kind.UNIFORM)
    readers: dict[str, list[str]] = {}
    for name, expr in {**program.state, **program.where}.items():
        read, kinds[name] = exposed([expr, program.init[name]] if name in program.init else [expr])
        for one in read:
            readers.setdefault(one, []).append(name)
    pending = list(kinds)
    while pending:  # kinds only grow, so this ends
        grown = pending.pop()
        for name in readers.get(grown, ()):
            kind = join((kinds[name], kinds[grown]))
            if kind is not kinds[name]:
                kinds[name] = kind
                pending.append(name)
    return kinds


def _merge_states(program: Program) -> Program:
    """Merge states with equal recurrences up to names (constants by value), until nothing changes."""
    plain = {name: substitute(expr, program.constants) for name, expr in program.state.items()}
    begun = {name: substitute(program.init.get(name, Number(0)), program.constants) for name in program.state}
    readers: dict[str, list[str]] = {}
    for name, expr in plain.items():
        for read in {*names(expr), *lags(expr)} & plain.keys():
            readers.setdefault(read, []).append(name)
    representative = {name: name for name in plain}
    keys: dict[str, str] = {}
    changed = set(plain)
    while changed:  # only what reads a state that was merged can have become equal to another
        for name in changed:
            keys[name] = repr((begun[name], rename(plain[name], {**representative, name: "_self"})))
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
        {name: expr for name, expr in program.init.items() if name in kept},
    )


def _first_of_each(keys: Mapping[str, str], representative: Mapping[str, str]) -> dict[str, str]:
    """Every state's representative, once those that have equal keys are one: the first of them."""
    seen: dict[str, str] = {}
    merged = {
        name: seen.setdefault(keys[name], name) if kept == name else kept for name, kept in representative.items()
    }
    return {name: merged[kept] for name, kept in merged.items()}
