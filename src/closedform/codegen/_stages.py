"""Stages: a long loop body cut where one slow function waits for another.

``tanh(m/(sqrt(v) + eps))`` is a chain of some hundred cycles, and a processor looks only an iteration or two ahead. Cut
before the tanh, into two loops over a block that stays in the first-level cache, both loops have short chains and
many of them at once: measured, 15 to 20 % less time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from closedform.codegen._plan import Plan

SLOW = frozenset({"exp", "log", "tanh", "sinh", "asinh", "erf", "erfc", "pow", "spow", "slog"})
LONG = frozenset({"sqrt", "ssqrt", "div", "reciprocal", "pow_half"}) | SLOW
MOST_CARRIED = 6
"""Values handed from stage to stage, past which one loop is better."""


@dataclass(frozen=True)
class Stage:
    """One loop.

    Attributes:
        nodes: To compute, in order; inputs are loaded again in every stage that reads them.
        incoming, outgoing: Values that earlier stages have left, and that later ones need.
    """

    nodes: tuple[int, ...]
    incoming: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()


def stages(plan: Plan, elementwise: list[int], early: Iterable[int], final: int) -> list[Stage]:
    """Cut the elementwise nodes of a loop into one or more stages.

    Args:
        plan: The plan.
        elementwise: Nodes of the loop, in order.
        early: Those to store as soon as they are there.
        final: The one that the last stage needs.
    """
    inside = {*elementwise}
    args = {index: [arg for arg in plan.nodes[index].args if arg in inside] for index in elementwise}
    number = _numbered(plan, elementwise, args)
    last = max(number.values(), default=0)
    needed = {index: {number[reader] for reader in readers} for index, readers in _readers(elementwise, args).items()}
    for index, when in ((final, last), *((index, number.get(index, 0)) for index in early)):
        if index in needed:
            needed[index].add(when)
    is_input = {index: plan.nodes[index].op == "input" for index in elementwise}
    carried = [i for i in elementwise if not is_input[i] and max(needed[i], default=0) > number[i]]
    if last == 0 or len(carried) > MOST_CARRIED:
        return [Stage(tuple(elementwise))]
    return [
        Stage(
            tuple(i for i in elementwise if number[i] == now or (is_input[i] and now in needed[i])),
            incoming=tuple(i for i in carried if number[i] < now and now in needed[i]),
            outgoing=tuple(i for i in carried if number[i] == now),
        )
        for now in range(last + 1)
    ]


def _numbered(plan: Plan, elementwise: list[int], args: Mapping[int, list[int]]) -> dict[int, int]:
    """The stage that computes each node: a slow function that waits for a long chain begins a new one."""
    number: dict[int, int] = {}
    chained: set[int] = set()
    for index in elementwise:
        op, waits = plan.nodes[index].op, not chained.isdisjoint(args[index])
        if op in LONG or waits:
            chained.add(index)
        number[index] = max((number[arg] for arg in args[index]), default=0) + (op in SLOW and waits)
    return number


def _readers(elementwise: list[int], args: Mapping[int, list[int]]) -> dict[int, list[int]]:
    """The nodes that read each node."""
    readers: dict[int, list[int]] = {index: [] for index in elementwise}
    for index in elementwise:
        for arg in args[index]:
            readers[arg].append(index)
    return readers
