"""The hall of fame: equations of which none is beaten in error, complexity and state cost at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from closedform._document import Line, Malformed, Many, Text, Within, read
from closedform.distillation._front import MAX_ENTRIES, RECORDED_ROWS, TOLERANCE, Front
from closedform.errors import RuleError
from closedform.lang import parse
from closedform.rules import Rule

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
class HallOfFame(Front[Entry]):
    """A distillation's outcome: rules."""

    what = "hall of fame"
    format = "closedform.hall/1"
    counted_rows = RECORDED_ROWS
    reach = TOLERANCE

    @property
    def simplest(self) -> Entry:
        """The smallest equation within 0.01 of the best R^2."""
        return self.choose(tolerance=TOLERANCE)

    @property
    def mapping_complexity(self) -> int:
        """MC: the complexity of the smallest equation within 0.01 of the best R^2 (paper, ours)."""
        return self.simplest.complexity

    def select(self, **limits: Any) -> Rule:
        """``choose(...).rule``."""
        return self.choose(**limits).rule

    @classmethod
    def row(cls, entry: Entry) -> dict[str, Any]:
        """An entry as it is written; the rule comes last."""
        kept = ("equation", "error", "train_error", "complexity", "state_cost", "stage")
        return {**{name: getattr(entry, name) for name in kept}, "rule": entry.rule.to_dict()}

    @classmethod
    def from_document(cls, document: Any) -> HallOfFame:
        """A file's content, parsed as JSON, but not checked.

        Raises:
            Malformed: it is not a hall of fame of this version, or a rule in it is malformed.
        """
        found: _Document = read(document, _Document)
        return cls(tuple(_entry(row, index) for index, row in enumerate(found.entries)), found.provenance)


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
