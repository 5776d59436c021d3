"""The hall of fame: equations of which none is beaten in error, complexity and state cost at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from closedform._document import Line, Malformed, Many, Text, Within, parse_json, read
from closedform._files import finite, read_text, write_text
from closedform.distillation._front import (
    RECORDED_ROWS,
    TOLERANCE,
    Evidence,
    R,
    close,
    least_error,
    shortest_description,
    smallest,
    within_limits,
)
from closedform.errors import CheckpointError, RuleError
from closedform.lang import parse
from closedform.rules import Rule

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = "closedform.hall/1"
MAX_ENTRIES = 1000
MAX_BYTES = 8 * 2**20
Error: TypeAlias = Annotated[float, Within(0)]
Formula: TypeAlias = Annotated[str, Text(20_000, 1)]
Stage: TypeAlias = Annotated[str, Line(100)]
Nodes: TypeAlias = Annotated[int, Within(1, 20_000)]
Buffers: TypeAlias = Annotated[int, Within(0, 20_000)]


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
        return self.choose(tolerance=TOLERANCE).complexity

    def choose(
        self,
        *,
        max_complexity: int | None = None,
        max_state_cost: int | None = None,
        tolerance: float | None = None,
    ) -> Entry:
        """The entry to take: of those within 0.01 of the best R^2 the one that describes the updates shortest.

        That is the least of n/2 log(1 - R^2) + 3 (complexity + state cost), in nats, with n the rows, at most 200: a
        node or a buffer more must lower the error by 3 %, down to 1e-9, which is exact.

        Args:
            max_complexity, max_state_cost: Only entries up to these are looked at.
            tolerance: In units of R^2: take the smallest entry within it of the best one instead.

        Raises:
            DistillationError: no entry is small enough.
        """
        allowed = within_limits(self.entries, max_complexity, max_state_cost)
        if tolerance is not None:
            return smallest(close(allowed, tolerance))
        return shortest_description(close(allowed, TOLERANCE), Evidence.of(self.provenance, RECORDED_ROWS))

    def select(
        self,
        *,
        max_complexity: int | None = None,
        max_state_cost: int | None = None,
        tolerance: float | None = None,
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
                "rule": entry.rule.to_dict(),
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


def front_table(entries: Sequence[R], chosen: R | None, target: str = "update") -> Table:
    """For printing with rich: one line an entry, the chosen one marked."""
    from rich.table import Table

    table = Table("", "R² held out", "nodes", "state", "stage", target)
    for entry in entries:
        cells = (_r2(entry.error), str(entry.complexity), str(entry.state_cost), entry.stage, entry.equation)
        table.add_row("*" if entry is chosen else "", *cells)
    return table


def _r2(error: float) -> str:
    """R^2 as text; what is nearly exact says how nearly."""
    return f"1 - {error:.0e}" if 0 < error < 5e-5 else f"{1 - error:.4f}"


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
        rule = Rule.from_dict(row.rule)
    except RuleError as error:
        raise Malformed(f"entries[{index}]: {error}") from None
    if row.state_cost != rule.state_cost:
        raise Malformed(
            f"entries[{index}].state_cost is {row.state_cost}, but its rule keeps {rule.state_cost} buffers"
        )
    return Entry(rule, row.equation, row.error, row.train_error, row.complexity, row.state_cost, row.stage)
