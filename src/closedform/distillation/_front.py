"""Fronts of equations: which are on them, and which one to take.

The choice weighs error against size by description length (Rissanen 1978; Bartlett, Desmond & Ferreira 2023, Exhaustive
Symbolic Regression): the nats that say what an equation leaves unexplained of n rows, and those that say the equation,

    n/2 * log(error) + NATS * (complexity + state cost).

So a node more must lower the error by the share 2*NATS/n: by 10 % where there are 60 rows, by 0.6 % from 1,000 on. An
exact equation beats every other one, noise is not worth fitting, and neither depends on how much of the target's
variance the equation's last term makes up, as a tolerance in R^2 would.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, TypeVar

from closedform.errors import DistillationError

TOLERANCE = 0.01
"""R^2 that the smallest equation may lack in the paper's definition of MC."""
EXACT = 1e-9
"""1 - R^2 below which equations are told apart by size alone: recordings are in single precision."""
NATS = 3.0
"""What a node or a buffer costs: one of about 20 operators, columns and constants."""
MOST_ROWS = 1000
"""Rows that a choice counts at most: what has no noise but is no law either would be worth any number of nodes."""
RECORDED_ROWS = 200
"""The same for recordings, whose rows are neighbours: steps of the same few parameters."""


class Ranked(Protocol):
    """What a front ranks: fields as in `Entry`."""

    @property
    def equation(self) -> str: ...
    @property
    def error(self) -> float: ...
    @property
    def train_error(self) -> float: ...
    @property
    def complexity(self) -> int: ...
    @property
    def state_cost(self) -> int: ...
    @property
    def stage(self) -> str: ...


R = TypeVar("R", bound=Ranked)


@dataclass(frozen=True)
class Evidence:
    """What errors were measured on.

    Attributes:
        train, held_out: Rows.
        exact: 1 - R^2 that rounding of the data alone may cause.
    """

    train: int
    held_out: int
    exact: float = EXACT

    @classmethod
    def of(cls, provenance: Mapping[str, Any], most: int) -> Evidence:
        """What a hall's provenance tells; rows count up to ``most``, and so many where it tells nothing."""
        rows, exact = provenance.get("rows"), provenance.get("exact", EXACT)
        train, held_out = (rows.get(name) if isinstance(rows, Mapping) else None for name in ("train", "held_out"))
        if not (_is_count(train) and _is_count(held_out)):
            train, held_out = 3 * most // 4, most // 4
        share = min(1.0, most / (train + held_out))
        fine = isinstance(exact, float) and 0 < exact <= EXACT
        return cls(max(round(share * train), 1), max(round(share * held_out), 1), exact if fine else EXACT)

    def length(self, entry: Ranked) -> float:
        """Nats that describe the rows by an equation; infinite where it is not finite."""
        count = self.train + self.held_out
        error = (self.train * entry.train_error + self.held_out * entry.error) / count
        if not error >= 0 or error == math.inf:
            return math.inf
        return count / 2 * math.log(max(error, self.exact)) + NATS * (entry.complexity + entry.state_cost)


def shortest_description(entries: Sequence[R], evidence: Evidence) -> R:
    """The entry that describes the rows shortest."""
    return min(entries, key=lambda entry: (evidence.length(entry), entry.complexity, entry.state_cost, entry.error))


def within_limits(entries: Sequence[R], max_complexity: int | None, max_state_cost: int | None) -> list[R]:
    """The entries with at most so many nodes and buffers a parameter.

    Raises:
        DistillationError: there is none.
    """
    if not entries:
        least_error(entries)
    most, cost = _limit(max_complexity), _limit(max_state_cost)
    allowed = [entry for entry in entries if entry.complexity <= most and entry.state_cost <= cost]
    if not allowed:
        raise DistillationError(
            f"no equation has at most {most:g} nodes and {cost:g} buffers a parameter: raise the limits"
        )
    return allowed


def close(entries: Sequence[R], tolerance: float) -> list[R]:
    """The entries whose R^2 is within ``tolerance`` of the best one's."""
    limit = min(entry.error for entry in entries) + tolerance
    return [entry for entry in entries if entry.error <= limit]


def smallest(entries: Sequence[R]) -> R:
    """The entry of the fewest nodes."""
    return min(entries, key=lambda entry: (entry.complexity, entry.state_cost, entry.error))


def least_error(entries: Sequence[R]) -> R:
    """The entry of least error.

    Raises:
        DistillationError: there is none.
    """
    if not entries:
        raise DistillationError(
            "the hall of fame is empty: nothing finite was found; raise max_complexity or time_limit"
        )
    return min(entries, key=lambda entry: (entry.error, entry.complexity, entry.state_cost))


def non_dominated(entries: Iterable[R], exact: float = EXACT) -> tuple[R, ...]:
    """The entries that no other one equals or beats in error, complexity and state cost at once, in order.

    A larger or costlier equation must lower the error by more than 0.1 % and ``exact``.
    """
    ordered = sorted(entries, key=lambda entry: (entry.complexity, entry.state_cost, entry.error, entry.equation))
    kept: list[R] = []
    for entry in ordered:
        if not any(
            other.error <= entry.error * 1.001 + exact and other.state_cost <= entry.state_cost for other in kept
        ):
            kept.append(entry)
    return tuple(kept)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 0 < value < 10**12


def _limit(value: int | None) -> float:
    return math.inf if value is None else value
