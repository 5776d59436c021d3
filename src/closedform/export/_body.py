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
from closedform.lang import Expr, Kind, Lag, Program, Symbol, history_key, kind_of, memory_kinds, names, transform
from closedform.rules import Rule


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
        return identifiers([*program.constants, *program.state, *program.where], {*self.taken, self.result})

    @cached_property
    def constants(self) -> dict[str, float]:
        """Name in the file -> default value."""
        return {self.names[name]: value for name, value in self.program.constants.items()}

    @cached_property
    def arguments(self) -> list[str]:
        """What a step needs besides constants."""
        used = {name for expr in self.program.expressions() for name in names(expr)} | set(self.program.histories)
        return ["g", *(name for name in ("w", "t") if name in used), *(["state"] if self.memory else [])]

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
        for name, expr in program.state.items():
            printer.assign(self.names[name], self.with_old_states(expr), name)
        for name, expr in program.where.items():
            printer.assign(self.names[name], expr, name)
        printer.assign(self.result, program.outputs["update"])
        return printer

    @property
    def lines(self) -> list[str]:
        """Statements of a step, without indentation."""
        return self.printer.lines

    @property
    def helpers(self) -> list[str]:
        """Source of the helper functions that the statements use."""
        helpers = self.printer.helpers
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
            return self.names.get(node.name, node.name)
        own = node.name in self.program.state and node.steps == 1
        return f'state["{node.name if own else history_key(node.name, node.steps)}"]'

    def with_old_states(self, expr: Expr) -> Expr:
        """In a state's recurrence a state's name means its old value."""

        def leaf(node: Expr) -> Expr:
            return Lag(node.name, 1) if isinstance(node, Symbol) and node.name in self.program.state else node

        return transform(expr, leaf)


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
