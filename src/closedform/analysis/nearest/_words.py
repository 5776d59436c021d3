"""The verdict in words: made from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from closedform.analysis.nearest._matches import CLOSE, Match
from closedform.learned_optimizers import Role, constant_roles
from closedform.rules import Rule

_ENOUGH = 0.99
"""R^2 that one addition must reach where a rule alone is not close."""
_SOME = 0.01
"""R^2 below which no rule is named."""
_SURELY = 1e5
"""Steps beyond which a memory is not told as a number."""


def verdict(found: Sequence[Match], alike: Sequence[str], left_out: Collection[str], steps: int) -> tuple[str, str]:
    """The verdict and the sentence.

    Args:
        found: Refitted rules, best first.
        alike: Names of those that cannot be told apart from the best.
        left_out: Names of rules that were not tried.
        steps: Length of the recorded episodes.
    """
    best = found[0]
    if best.exact:
        same = f"; {', '.join(alike)} with the right constants cannot be told apart from it" if alike else ""
        error = math.sqrt(max(1 - best.r2, 1e-32))
        return "exact", f"exact: {described(best.rule)}; differs by {error:.1g} of the updates' size{same}"
    told = described(best.rule, steps)
    if best.r2 >= CLOSE or any(addition.r2 >= _ENOUGH for addition in best.additions):
        same = f"; {', '.join(alike)} cannot be told apart from it" if alike else ""
        apart = f", but not {best.apart}" if best.apart else ""
        return "close", f"{percent(best.r2)} {told}{apart}{_with(best)}{same}"
    not_tried = f" (not tried: {', '.join(left_out)})" if left_out else ""
    if best.r2 < _SOME:
        return "unlike", f"unlike any known optimizer that was tried: none explains 1 % of the updates{not_tried}"
    explained = f"explains {percent(best.r2)} of the updates{_with(best)}"
    return "unlike", f"unlike any known optimizer that was tried: the nearest, {told}, {explained}{not_tried}"


def _with(best: Match) -> str:
    """What was added one at a time: the shares are not to be summed."""
    told = [f"{addition.what} ({percent(addition.r2)})" for addition in best.additions[:2]]
    return f", plus {' or '.join(told)}" if told else ""


def percent(share: float) -> str:
    """A share below one as a percentage that never rounds up: with as many nines as it has, to four decimals."""
    digits = min(4, max(0, math.ceil(-math.log10(max(1 - share, 1e-12)) - 1e-9) - 2))
    return f"{math.floor(100 * share * 10**digits + 1e-9) / 10**digits:g} %"


def described(rule: Rule, steps: float = math.inf) -> str:
    """A rule in words: its name, its constants, and how long its memories are.

    Args:
        rule: The rule.
        steps: A memory that is longer than that is only said to be longer.
    """
    roles = constant_roles(rule.program.live)
    told = [f"lr {rule.lr:g}"]
    for name, role in roles.items():
        value = rule.constants[name]
        if role is Role.DECAY:
            told.append(f"{name} {value:g} (a memory {_memory(value, steps)})")
        elif role is not Role.FLOOR and abs(value) > 1e-5:
            told.append(f"{name} {value:g}")
    return f"{rule.name} with {', '.join(told)}"


def _memory(decay: float, steps: float) -> str:
    memory = 1 / (1 - decay) if decay < 1 else math.inf
    if memory > steps:
        return f"longer than the {steps:g} steps recorded"
    if memory > _SURELY:
        return "of over 100,000 steps"
    told = f"{memory:,.0f}" if memory >= 100 else f"{memory:.3g}"
    return f"of {told} step{'' if told == '1' else 's'}"
