"""The hall of fame: equations of which none is beaten in error, complexity and state cost at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

from closedform._document import Line, Malformed, Many, Text, Within, parse_json, read
from closedform._files import finite, read_text, write_text
from closedform.errors import CheckpointError, DistillationError, RuleError
from closedform.lang import parse
from closedform.rules import Rule

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = "closedform.hall/1"
TOLERANCE = 0.01
"""R^2 that the smallest equation chosen may lack (paper, definition of MC)."""
MAX_ENTRIES = 1000
MAX_BYTES = 8 * 2**20
Error: TypeAlias = Annotated[float, Within(0)]
Formula: TypeAlias = Annotated[str, Text(20_000, 1)]
Stage: TypeAlias = Annotated[str, Line(100)]
Nodes: TypeAlias = Annotated[int, Within(1, 20_000)]
Buffers: TypeAlias = Annotated[int, Within(0, 20_000)]


class Ranked(Protocol):
    """What a front ranks: fields as in `Entry`."""

    @property
    def equation(self) -> str: ...
    @property
    def error(self) -> float: ...
    @property
    def complexity(self) -> int: ...
    @property
    def state_cost(self) -> int: ...
    @property
    def stage(self) -> str: ...


R = TypeVar("R", bound=Ranked)


@dataclass(frozen=True)
class Entry:
    """One equation.

    Attributes:
        rule: The whole rule.
        equation: The update over the recording's columns, as text.
        error: 1 - R^2 on the held-out rows, predictions clipped to a little past the training updates' range.
        train_error: The same on the training rows.
        complexity: Nodes of the equation in its columns; an average counts as the one name that it is.
        state_cost: Buffers a parameter that the rule keeps.
        stage: Which stage made it.
    """

    rule: Rule
    equation: str
    error: float
    train_error: float
    complexity: int
    state_cost: int
    stage: str

    @property
    def r2(self) -> float:
        """R^2 on the held-out rows."""
        return 1 - self.error


@dataclass(frozen=True)
class HallOfFame:
    """A distillation's outcome.

    Attributes:
        entries: Non-dominated over (error, complexity, state cost); by complexity, then state cost.
        provenance: What was distilled, with which options; what was left out. Any JSON object.
    """

    entries: tuple[Entry, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def best(self) -> Entry:
        """The entry of least error.

        Raises:
            DistillationError: the hall is empty.
        """
        return least_error(self.entries)

    @property
    def mapping_complexity(self) -> int:
        """MC: the complexity of the smallest equation within 0.01 of the best R^2 (paper, ours)."""
        return self.choose().complexity

    def choose(
        self, *, max_complexity: int | None = None, max_state_cost: int | None = None, tolerance: float = TOLERANCE
    ) -> Entry:
        """The smallest entry whose R^2 is within ``tolerance`` of the best one's.

        Args:
            max_complexity, max_state_cost: Only entries up to these are looked at.
            tolerance: In units of R^2.

        Raises:
            DistillationError: no entry is small enough.
        """
        return smallest_close(self.entries, max_complexity, max_state_cost, tolerance)

    def select(
        self, *, max_complexity: int | None = None, max_state_cost: int | None = None, tolerance: float = TOLERANCE
    ) -> Rule:
        """The rule of the entry that `choose` returns."""
        return self.choose(max_complexity=max_complexity, max_state_cost=max_state_cost, tolerance=tolerance).rule

    def table(self, chosen: Entry | None = None) -> Table:
        """For printing with rich: one line an entry, the chosen one marked: by default what `choose` gives."""
        return front_table(self.entries, chosen or (self.choose() if self.entries else None))

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal hall."""
        entries = [
            {
                "equation": entry.equation,
                "error": entry.error,
                "train_error": entry.train_error,
                "complexity": entry.complexity,
                "state_cost": entry.state_cost,
                "stage": entry.stage,
                "rule": json.loads(entry.rule.to_json()),
            }
            for entry in self.entries
        ]
        document = {"format": FORMAT, "provenance": finite(dict(self.provenance)), "entries": entries}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> HallOfFame:
        """Read a hall's text.

        Raises:
            CheckpointError: not a hall of fame of this version, or malformed.
        """
        try:
            found: _Document = read(parse_json(text), _Document)
            return cls(tuple(_entry(row, index) for index, row in enumerate(found.entries)), found.provenance)
        except (Malformed, RuleError) as error:
            raise CheckpointError(f"not a hall of fame, or damaged: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write the hall as JSON, atomically."""
        write_text(Path(path), self.to_json())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> HallOfFame:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, too large or damaged.
        """
        return cls.from_json(read_text(Path(path), what="hall of fame", limit=MAX_BYTES))


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


def smallest_close(entries: Sequence[R], max_complexity: int | None, max_state_cost: int | None, tolerance: float) -> R:
    """As `HallOfFame.choose`."""
    most, cost = _limit(max_complexity), _limit(max_state_cost)
    allowed = [entry for entry in entries if entry.complexity <= most and entry.state_cost <= cost]
    if not allowed:
        raise DistillationError(
            f"no equation has at most {most:g} nodes and {cost:g} buffers a parameter: raise the limits"
        )
    limit = min(entry.error for entry in allowed) + tolerance
    close = [entry for entry in allowed if entry.error <= limit]
    return min(close, key=lambda entry: (entry.complexity, entry.state_cost, entry.error))


def front_table(entries: Sequence[R], chosen: R | None, target: str = "update") -> Table:
    """For printing with rich: one line an entry, the chosen one marked."""
    from rich.table import Table

    table = Table("", "R² held out", "nodes", "state", "stage", target)
    for entry in entries:
        cells = (f"{1 - entry.error:.4f}", str(entry.complexity), str(entry.state_cost), entry.stage, entry.equation)
        table.add_row("*" if entry is chosen else "", *cells)
    return table


def non_dominated(entries: Iterable[R]) -> tuple[R, ...]:
    """The entries that no other one equals or beats in error, complexity and state cost at once, in order.

    A larger or costlier equation must lower the error by more than 0.1 % and 1e-9.
    """
    ordered = sorted(entries, key=lambda entry: (entry.complexity, entry.state_cost, entry.error, entry.equation))
    kept: list[R] = []
    for entry in ordered:
        if not any(
            other.error <= entry.error * 1.001 + 1e-9 and other.state_cost <= entry.state_cost for other in kept
        ):
            kept.append(entry)
    return tuple(kept)


def _limit(value: int | None) -> float:
    return math.inf if value is None else value


@dataclass(frozen=True)
class _Row:
    """An entry in the file."""

    equation: Formula
    error: Error
    train_error: Error
    complexity: Nodes
    state_cost: Buffers
    stage: Stage
    rule: Mapping[str, Any]


@dataclass(frozen=True)
class _Document:
    """The file."""

    format: Literal["closedform.hall/1"]
    provenance: Mapping[str, Any]
    entries: Annotated[tuple[_Row, ...], Many(MAX_ENTRIES)]


def _entry(row: _Row, index: int) -> Entry:
    try:
        parse(row.equation)
        rule = Rule.from_document(row.rule)
    except RuleError as error:
        raise Malformed(f"entries[{index}]: {error}") from None
    if row.state_cost != rule.state_cost:
        raise Malformed(f"entries[{index}].state_cost is {row.state_cost}, but its rule keeps {rule.state_cost} buffers")
    return Entry(rule, row.equation, row.error, row.train_error, row.complexity, row.state_cost, row.stage)
