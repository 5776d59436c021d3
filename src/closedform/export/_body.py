"""A program as statements of an array library: what `one_step` of an exported file computes.

Old values are read as ``state["m"]``, new ones are local variables, so that a reader sees which is which:

    m = beta1 * state["m"] + (1 - beta1) * g
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from closedform.export._identifiers import identifiers, unused_stem
from closedform.export._printer import INDENT, WIDTH, Dialect, Printer
from closedform.lang import (
    LATE_INPUTS,
    OPERATORS,
    Apply,
    Expr,
    Kind,
    Lag,
    Number,
    Program,
    Symbol,
    apply,
    history_key,
    kind_of,
    memory_kinds,
    transform,
)
from closedform.rules import Rule

_ZEROS = {Kind.ROWWISE: "row_zeros", Kind.COLUMNWISE: "col_zeros"}
"""Helpers that make states of one number a row or column."""


@dataclass
class Body:
    """A rule in one dialect.

    Attributes:
        rule: The rule.
        dialect: The array library.
        taken: Names that the exported file uses itself.
        result: Name of the variable that takes the update.
    """

    rule: Rule
    dialect: Dialect
    taken: frozenset[str]
    result: str = "update"

    @cached_property
    def program(self) -> Program:
        """The program that runs: live and merged, as `RuleOptimizer` runs it."""
        return self.rule.program.merged

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Name in the rule -> name in the file."""
        program = self.program
        late = {*LATE_INPUTS, "total_steps", *_ZEROS.values()} if program.level > 1 else set()
        return identifiers([*program.constants, *program.state, *program.where], {*self.taken, self.result, *late})

    @cached_property
    def constants(self) -> dict[str, float]:
        """Name in the file -> default value."""
        return {self.names[name]: value for name, value in self.program.constants.items()}

    @cached_property
    def arguments(self) -> list[str]:
        """What a step needs besides constants."""
        used = self.program.reads | ({"t"} if self.program.init else set())
        return ["g", *(name for name in ("w", "t", *LATE_INPUTS) if name in used), *(["state"] if self.memory else [])]

    @property
    def reads_t(self) -> bool:
        """Whether the step's number must be known, be it for the share of all steps."""
        return not {"t", "progress"}.isdisjoint(self.arguments)

    @property
    def needs_total_steps(self) -> bool:
        """Whether the number of all steps must be known."""
        return self.program.needs_total_steps

    @property
    def update_kind(self) -> Kind:
        """What the update varies over."""
        return kind_of(self.program.outputs["update"], self.program.kinds)

    @cached_property
    def memory(self) -> dict[str, Kind]:
        """Memory keys, named as in `RuleOptimizer`, with their kinds."""
        return memory_kinds(self.program)

    def keys(self, *kinds: Kind) -> list[str]:
        """Memory keys of some kinds."""
        return [key for key, kind in self.memory.items() if kind in kinds]

    @cached_property
    def printer(self) -> Printer:
        """The printer, after all statements."""
        program = self.program
        printer = Printer(self.dialect, self.read, set(program.constants), unused_stem("part", self.names.values()))
        later = apply("greater", Symbol("t"), Number(1))
        for name, expr in program.init.items():
            begun = apply("where", later, Symbol(_stored(name)), expr)
            printer.assign(self.begun[name], self.spread(begun))
        for name, expr in program.state.items():
            printer.assign(self.names[name], self.with_old_states(self.spread(expr)), name)
        for name, expr in program.where.items():
            printer.assign(self.names[name], self.spread(expr), name)
        printer.assign(self.result, self.spread(program.outputs["update"]))
        return printer

    @cached_property
    def begun(self) -> dict[str, str]:
        """State with an initial value -> the variable that holds its old value."""
        stem = unused_stem("old_", self.names.values())
        return {name: f"{stem}{self.names[name]}" for name in self.program.init}

    def spread(self, expr: Expr) -> Expr:
        """The expression, with rows and columns of numbers spread over the tensor where an operator needs all of it."""
        if not isinstance(expr, Apply):
            return expr
        args = [self.spread(arg) for arg in expr.args]
        whole = OPERATORS[expr.op].reduces and expr.op not in ("mean", "rms")
        if whole and kind_of(expr.args[0], self.program.kinds) in (Kind.ROWWISE, Kind.COLUMNWISE):
            args = [apply("where", apply("greater", Number(1), Number(0)), args[0], Symbol("g"))]
        return apply(expr.op, *args)

    @property
    def lines(self) -> list[str]:
        """Statements of a step, without indentation."""
        return self.printer.lines

    @property
    def helpers(self) -> list[str]:
        """Source of the helper functions that the statements use."""
        helpers = self.printer.helpers | {name for kind, name in _ZEROS.items() if self.keys(kind)}
        return [source for name, source in self.dialect.helpers.items() if name in helpers]

    @cached_property
    def stores(self) -> list[str]:
        """Items of the dictionary that holds the new memory."""
        items = [f'"{name}": {self.names[name]}' for name in self.program.state]
        for name, depth in self.program.histories.items():
            first = 2 if name in self.program.state else 1
            newest: Symbol | Lag = Lag(name, 1) if name in self.program.state else Symbol(name)
            for steps in range(first, first + depth):
                items.append(f'"{history_key(name, steps)}": {self.read(newest)}')
                newest = Lag(name, steps)
        return items

    def read(self, node: Symbol | Lag) -> str:
        if isinstance(node, Symbol):
            key = node.name.removeprefix(_STORED)
            return self.names.get(node.name, node.name) if key == node.name else f'state["{key}"]'
        own = node.name in self.program.state and node.steps == 1
        if own and node.name in self.begun:
            return self.begun[node.name]
        return f'state["{node.name if own else history_key(node.name, node.steps)}"]'

    def with_old_states(self, expr: Expr) -> Expr:
        """In a state's recurrence a state's name means its old value."""

        def leaf(node: Expr) -> Expr:
            return Lag(node.name, 1) if isinstance(node, Symbol) and node.name in self.program.state else node

        return transform(expr, leaf)


_STORED = "cf_stored_"
"""Marks the stored value of a state that has an initial one; no name of a program starts like this."""


def _stored(name: str) -> str:
    return _STORED + name


def one_step(body: Body) -> str:
    """The function ``one_step``: pure, one parameter, constants as arguments."""
    lines = [
        bracketed("def one_step(", [*body.arguments, *body.constants], "):"),
        f'{INDENT}"""One step of one parameter: the update{", and the new state" if body.memory else ""}."""',
        *(INDENT + line for line in body.lines),
        bracketed("return update, {", body.stores, "}", INDENT) if body.memory else INDENT + "return update",
    ]
    return "\n".join(lines) + "\n"


def bracketed(head: str, items: list[str], tail: str, indent: str = "") -> str:
    """Items in brackets: on one line if they fit, else one a line; both as ruff and black lay them out."""
    flat = f"{indent}{head}{', '.join(items)}{tail}"
    if len(flat) <= WIDTH:
        return flat
    inner = indent + INDENT
    return "\n".join([indent + head, *(f"{inner}{item.rstrip(',')}," for item in items), indent + tail])


def string_tuple(strings: list[str]) -> list[str]:
    """Items of a tuple of strings; a tuple of one keeps its comma."""
    items = [f'"{text}"' for text in strings]
    return [items[0] + ","] if len(items) == 1 else items
