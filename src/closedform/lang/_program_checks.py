"""What a program must keep to: names, sizes, references; the first fault is told with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from closedform._document import shown
from closedform.errors import ExpressionError
from closedform.lang._expression import Apply, Expr, Lag, Number, Symbol, complexity, walk
from closedform.lang._inputs import INPUTS, LATE_INPUTS
from closedform.lang._kinds import Kind, kind_of, reduces
from closedform.lang._operators import FUNCTIONS

LATE_NAMES = frozenset({*LATE_INPUTS, *(name for name, row in FUNCTIONS.items() if row.late)})
"""Reserved in programs of language level 2 only."""
RESERVED = frozenset({*INPUTS, *FUNCTIONS, "lag", "prev", "lr", "step"}) - LATE_NAMES
MAX_ENTRIES = 512
"""States, named values and constants that one program may have, each."""
MAX_NODES = 20_000
"""Nodes of all expressions of one program."""
MAX_BUFFERS = 1024
"""Buffers a parameter that one program may ask for."""


class Sections(Protocol):
    """What is checked: a program."""

    @property
    def constants(self) -> Mapping[str, float]: ...
    @property
    def state(self) -> Mapping[str, Expr]: ...
    @property
    def where(self) -> Mapping[str, Expr]: ...
    @property
    def outputs(self) -> Mapping[str, Expr]: ...
    @property
    def init(self) -> Mapping[str, Expr]: ...
    @property
    def level(self) -> int: ...
    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    @property
    def histories(self) -> Mapping[str, int]: ...
    def expressions(self) -> Iterator[Expr]: ...


def check_names(program: Sections) -> None:
    """Refuse names that clash, are reserved or no identifiers, and too many of them."""
    seen: dict[str, str] = {}
    reserved = RESERVED if program.level == 1 else RESERVED | LATE_NAMES
    for section in ("constants", "state", "where"):
        entries: Mapping[str, object] = getattr(program, section)
        if len(entries) > MAX_ENTRIES:
            raise ExpressionError(f"{section}: {len(entries)} entries; the limit is {MAX_ENTRIES}")
        for name in entries:
            if not (name.isidentifier() and name.isascii()) or len(name) > 64:
                raise ExpressionError(
                    f"{section} {shown(name)}: a name must be an ASCII identifier of at most 64 characters"
                )
            if name in reserved or name.startswith("cf_"):
                raise ExpressionError(
                    f'{section} "{name}": this name is reserved (reserved: {", ".join(sorted(reserved))})'
                )
            if name in seen:
                raise ExpressionError(f'{section} "{name}": already defined in {seen[name]}')
            seen[name] = section
    for name, value in program.constants.items():
        Number(value)  # refuses NaN and infinity
        if isinstance(value, bool):
            raise ExpressionError(f'constant "{name}" must be a number')


def check_size(program: Sections) -> None:
    """Refuse more nodes than the limit."""
    nodes = sum(complexity(expr) for expr in program.expressions())
    if nodes > MAX_NODES:
        raise ExpressionError(f"the program has {nodes} nodes; the limit is {MAX_NODES}")


def check_references(program: Sections) -> None:
    """Refuse what is read and not known there."""
    inputs = {*INPUTS, *LATE_INPUTS}
    base = inputs | {*program.constants, *program.state}
    signals = {"g", "w", *program.state, *program.where}
    for name, expr in program.init.items():
        _check_init(name, expr, program)
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
            if not isinstance(node, Apply) or not reduces(node):
                continue
            if not kind_of(node.args[0], program.kinds).varies:
                raise ExpressionError(f"{place}: {node.op} needs a value that varies over the parameter tensor")


def _check_init(name: str, expr: Expr, program: Sections) -> None:
    if name not in program.state:
        raise ExpressionError(f'init "{name}": there is no such state ({_known(name, {*program.state})})')
    if program.histories.get(name, 0):
        raise ExpressionError(f'init "{name}": a state with an initial value can be looked back at by one step only')
    for node in walk(expr):
        if isinstance(node, Lag):
            raise ExpressionError(f'init "{name}": nothing came before; lag(...) and prev(...) cannot be used')
    known = {*INPUTS, *LATE_INPUTS, *program.constants} - {*program.state, *program.where}
    _check_expression(f'init "{name}"', expr, known, set(), later={})


def _places(program: Sections) -> Iterator[tuple[str, Expr]]:
    yield from ((f'init "{name}"', expr) for name, expr in program.init.items())
    yield from ((f'state "{name}"', expr) for name, expr in program.state.items())
    yield from ((f'where "{name}"', expr) for name, expr in program.where.items())
    yield from program.outputs.items()


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
