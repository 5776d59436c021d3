"""Fronts of equations: which are on them, and which one to take.

The choice weighs error against size by description length (Rissanen 1978; Bartlett, Desmond & Ferreira 2023, Exhaustive
Symbolic Regression): the nats that say what an equation leaves unexplained of n rows, and those that say the equation,

    n/2 * log(error) + NATS * (complexity + state cost).

So a node more must lower the error by the share 2*NATS/n: by 10 % where there are 60 rows, by 0.6 % from 1,000 on. An
exact equation beats every other one, noise is not worth fitting, and neither depends on how much of the target's
variance the equation's last term makes up, as a tolerance in R^2 would.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeGuard, TypeVar

from closedform._document import Malformed, parse_json
from closedform._files import finite, read_text, write_text
from closedform.errors import CheckpointError, ClosedFormError, DistillationError

if TYPE_CHECKING:
    from rich.table import Table
    from typing_extensions import Self

TOLERANCE = 0.01
"""R^2 that the smallest equation may lack in the paper's definition of MC."""
EXACT = 1e-9
"""1 - R^2 below which equations are told apart by size alone: recordings are in single precision."""
HIDDEN = 1e-8
"""The same for windows, which hide a share of every state: of a decay of 0.6 through 20 steps 4e-5, 1e-9 squared."""
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
        fine = isinstance(exact, float) and 0 < exact <= HIDDEN
        return cls(max(round(share * train), 1), max(round(share * held_out), 1), exact if fine else EXACT)

    def length(self, entry: Ranked) -> float:
        """Nats that describe the rows by an equation; infinite where it is not finite."""
        count = self.train + self.held_out
        error = (self.train * entry.train_error + self.held_out * entry.error) / count
        if not error >= 0 or error == math.inf:
            return math.inf
        return count / 2 * math.log(max(error, self.exact)) + NATS * (entry.complexity + entry.state_cost)


MAX_ENTRIES = 1000
MAX_BYTES = 8 * 2**20
"""What a file may hold."""


@dataclass(frozen=True)
class Front(ABC, Generic[R]):
    """Equations of which none is beaten in error, complexity and state cost at once.

    Attributes:
        entries: By complexity, then state cost.
        provenance: What was distilled, with which options; what was left out. Any JSON object.
    """

    entries: tuple[R, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    what: ClassVar[str]
    """What messages call its file."""
    format: ClassVar[str]
    counted_rows: ClassVar[int]
    """Rows that a choice counts at most."""
    reach: ClassVar[float | None] = None
    """R^2 that the chosen entry may lack of the best one's; None: any."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def best(self) -> R:
        """The entry of least error.

        Raises:
            DistillationError: there is none.
        """
        return least_error(self.entries)

    @property
    def evidence(self) -> Evidence:
        """What errors were measured on, as far as it counts."""
        return Evidence.of(self.provenance, self.counted_rows)

    @property
    def interrupted(self) -> bool:
        """Whether the search was ended from the keyboard: these are the best so far."""
        return self.provenance.get("interrupted") is True

    def choose(
        self,
        *,
        max_complexity: int | None = None,
        max_state_cost: int | None = None,
        tolerance: float | None = None,
    ) -> R:
        """The entry to take: the one that describes the data shortest.

        That is the least of n/2 log(1 - R^2) + 3 (complexity + state cost), in nats, with n the rows. Of a table at
        most 1,000 count, and R^2 is over all of them: an exact equation is never passed over, nor one better by more
        than its size. Of a recording, whose rows are neighbours, at most 200 count, and only entries within 0.01 of the
        best R^2 are looked at: a node or a buffer more must lower the error by 3 %, down to 1e-9, which is exact. Of
        windows, which overlap, 200 count too, down to 1e-8.

        Args:
            max_complexity, max_state_cost: Only entries up to these are looked at.
            tolerance: In units of R^2: take the smallest entry within it of the best one instead.

        Raises:
            DistillationError: no entry is small enough.
        """
        allowed = within_limits(self.entries, max_complexity, max_state_cost)
        if tolerance is not None:
            return smallest(close(allowed, tolerance))
        near = allowed if self.reach is None else close(allowed, self.reach)
        return shortest_description(near, self.evidence)

    def table(self, chosen: R | None = None) -> Table:
        """For printing with rich: one line an entry, the chosen one marked: by default what `choose` gives."""
        from rich.table import Table

        marked = chosen or (self.choose() if self.entries else None)
        table = Table("", "R² held out", "nodes", "state", "stage", str(self.provenance.get("target", "update")))
        for entry in self.entries:
            cells = (_r2(entry.error), str(entry.complexity), str(entry.state_cost), entry.stage, entry.equation)
            table.add_row("*" if entry is marked else "", *cells)
        return table

    @classmethod
    @abstractmethod
    def row(cls, entry: R) -> dict[str, Any]:
        """An entry as it is written."""

    @classmethod
    @abstractmethod
    def from_document(cls, document: Any) -> Self:
        """A file's content, parsed as JSON, but not checked.

        Raises:
            Malformed, ClosedFormError: it is not such a file.
        """

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal front."""
        rows = [self.row(entry) for entry in self.entries]
        document = {"format": self.format, "provenance": finite(dict(self.provenance)), "entries": rows}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` gave.

        Raises:
            CheckpointError: not such a file of this version, or malformed.
        """
        try:
            return cls.from_document(parse_json(text))
        except (ClosedFormError, Malformed) as error:
            raise CheckpointError(f"not a {cls.what}, or damaged: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, atomically.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(Path(path), self.to_json())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, too large or damaged.
        """
        return cls.from_json(read_text(Path(path), what=cls.what, limit=MAX_BYTES))


def _r2(error: float) -> str:
    """R^2 as text; what is nearly exact says how nearly."""
    return f"1 - {error:.0e}" if 0 < error < 5e-5 else f"{1 - error:.4f}"


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
