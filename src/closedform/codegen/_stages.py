"""Stages: a long loop body cut where one slow function waits for another.

``tanh(m/(sqrt(v) + eps))`` is a chain of some hundred cycles, and a processor looks only an iteration or two ahead. Cut
before the tanh, into two loops over a block that stays in the first-level cache, both loops have short chains and
many of them at once: measured, 15 to 20 % less time.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    inside = set(elementwise)
    stage: dict[int, int] = {}
    chained: dict[int, bool] = {}
    for index in elementwise:
        node = plan.nodes[index]
        args = [arg for arg in node.args if arg in inside]
        chained[index] = node.op in LONG or any(chained[arg] for arg in args)
        waits = node.op in SLOW and any(chained[arg] for arg in args)
        stage[index] = max((stage[arg] for arg in args), default=0) + waits
    last = max(stage.values(), default=0)
    uses: dict[int, set[int]] = {index: set() for index in elementwise}
    for index in elementwise:
        for arg in plan.nodes[index].args:
            if arg in inside:
                uses[arg].add(stage[index])
    for index, when in ((final, last), *((index, stage.get(index, 0)) for index in early)):
        if index in inside:
            uses[index].add(when)
    carried = [i for i in elementwise if plan.nodes[i].op != "input" and max(uses[i], default=0) > stage[i]]
    if last == 0 or len(carried) > MOST_CARRIED:
        return [Stage(tuple(elementwise))]
    return [_stage(plan, number, elementwise, stage, uses, carried) for number in range(last + 1)]


def _stage(
    plan: Plan,
    number: int,
    elementwise: list[int],
    stage: dict[int, int],
    uses: dict[int, set[int]],
    carried: list[int],
) -> Stage:
    def computed(index: int) -> bool:
        loaded_again = plan.nodes[index].op == "input" and number in uses[index]
        return stage[index] == number or loaded_again

    return Stage(
        tuple(index for index in elementwise if computed(index)),
        tuple(index for index in carried if stage[index] < number and number in uses[index]),
        tuple(index for index in carried if stage[index] == number),
    )
