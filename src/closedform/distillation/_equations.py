"""Equations over a plain table's columns, as `distill_table` finds them. They are no rules: nothing trains by them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch

from closedform._document import Malformed, Many, parse_json, read, shown
from closedform._files import finite, read_text, write_text
from closedform.distillation._config import DistillConfig, OnProgress
from closedform.distillation._data import Data, Part, prepare
from closedform.distillation._distill import distill
from closedform.distillation._hall import (
    MAX_BYTES,
    MAX_ENTRIES,
    TOLERANCE,
    Buffers,
    Entry,
    Error,
    Formula,
    Nodes,
    Stage,
    front_table,
    least_error,
    non_dominated,
    smallest_close,
)
from closedform.distillation._table import Table
from closedform.errors import CheckpointError, ExpressionError, UnknownNameError
from closedform.lang import Expr, Lag, Symbol, evaluate, latex, names, nonfinite_constant, parse, to_text, transform

if TYPE_CHECKING:
    from rich.table import Table as RichTable

FORMAT = "closedform.equations/1"


@dataclass(frozen=True)
class Equation:
    """One equation.

    Attributes:
        equation: The target over the columns, as text of the rule language.
        complexity: Nodes.
        state_cost: Past values that must be remembered: for every column the longest lag that is read.
        error: 1 - R^2 on the held-out rows; unlike a rule's, its predictions are not clipped.
        train_error: The same on the training rows.
        stage: Which stage made it.
    """

    equation: Formula
    complexity: Nodes
    state_cost: Buffers
    error: Error
    train_error: Error
    stage: Stage

    @property
    def r2(self) -> float:
        """R^2 on the held-out rows."""
        return 1 - self.error

    @property
    def expr(self) -> Expr:
        """The parsed equation."""
        return parse(self.equation)

    def latex(self) -> str:
        """The equation in LaTeX."""
        return latex(self.expr)

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The target, [N].

        Args:
            columns: Name -> numbers, [N] each; a lag is the column ``x_k``.

        Raises:
            UnknownNameError: a column is missing.
        """
        expr = transform(self.expr, _column_of)
        if missing := sorted(names(expr) - columns.keys()):
            raise UnknownNameError(f"the equation {self.equation!r} also needs the columns {', '.join(missing)}")
        values = {name: torch.as_tensor(np.asarray(columns[name], np.float64)) for name in names(expr)}
        return evaluate(expr, values).numpy()


@dataclass(frozen=True)
class EquationHall:
    """The equations of which none is beaten in error, complexity and remembered values at once.

    Attributes:
        entries: By complexity.
        provenance: The table, the options, what was left out.
    """

    entries: tuple[Equation, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def best(self) -> Equation:
        """The equation of least error; raises DistillationError if there is none."""
        return least_error(self.entries)

    def choose(
        self, *, max_complexity: int | None = None, max_state_cost: int | None = None, tolerance: float = TOLERANCE
    ) -> Equation:
        """The smallest equation whose R^2 is within ``tolerance`` of the best one's, as `HallOfFame.choose`."""
        return smallest_close(self.entries, max_complexity, max_state_cost, tolerance)

    def table(self) -> RichTable:
        """For printing with rich: one line an equation, the chosen one marked."""
        return front_table(
            self.entries, self.choose() if self.entries else None, str(self.provenance.get("target", ""))
        )

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal hall."""
        entries = [dataclasses.asdict(entry) for entry in self.entries]
        document = {"format": FORMAT, "provenance": finite(dict(self.provenance)), "entries": entries}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EquationHall:
        """Read a hall's text.

        Raises:
            CheckpointError: not a hall of equations of this version, or malformed.
        """
        try:
            found: _Document = read(parse_json(text), _Document)
            for entry in found.entries:
                _check(entry)
        except (ExpressionError, Malformed) as error:
            raise CheckpointError(f"not a hall of equations, or damaged: {error}") from None
        return cls(found.entries, found.provenance)

    def save(self, path: str | Path) -> Path:
        """Write the hall as JSON, atomically."""
        write_text(Path(path), self.to_json())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> EquationHall:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, too large or damaged.
        """
        return cls.from_json(read_text(Path(path), what="hall of equations", limit=MAX_BYTES))


@dataclass(frozen=True)
class _Document:
    """The file."""

    format: Literal["closedform.equations/1"]
    provenance: Mapping[str, Any]
    entries: Annotated[tuple[Equation, ...], Many(MAX_ENTRIES)]


def distill_table(
    table: Table,
    backend: str = "operon",
    config: DistillConfig | None = None,
    *,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> EquationHall:
    """Distil a plain table: equations that give its target from its columns.

    As `distill`, without what needs episodes: no moving averages, no recurrences.

    Args:
        table: From `load_table` or `Table.from_columns`.
        backend, config, on_progress, options: As for `distill`.

    Raises:
        DistillationError: the target never changes, too few rows, too many that are not finite.
        OptionError, UnknownNameError: as for `distill`.
    """
    config = (config or DistillConfig()).with_options(options)
    trajectories = table.trajectories()
    hall = distill(trajectories, backend, config, on_progress=on_progress)
    data = prepare(trajectories, config)
    found = [_judged(entry, data) for entry in hall.entries]
    provenance = {**hall.provenance, **_provenance(table, hall.provenance)}
    return EquationHall(non_dominated(entry for entry in found if math.isfinite(entry.error)), provenance)


def _judged(entry: Entry, data: Data) -> Equation:
    shared = {field.name: getattr(entry, field.name) for field in dataclasses.fields(Equation)}
    equation = Equation(**shared)
    return dataclasses.replace(equation, error=_error(equation, data.test), train_error=_error(equation, data.train))


def _error(equation: Equation, part: Part) -> float:
    y = part.y.numpy()
    left = y - equation.predict(part.columns)
    return float(np.square(left).sum() / np.square(y - y.mean()).sum())


def _provenance(table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    lagged = any(column.lag for column in table.columns())
    return {
        "table": table.source,
        "target": table.target_name,
        "columns": list(table.names),
        "held_out": "runs of neighbouring rows" if lagged else "rows drawn at random",
        "notes": [*table.notes, *found.get("notes", ())],
    }


def _column_of(leaf: Expr) -> Expr:
    return Symbol(f"{leaf.name}_{leaf.steps}") if isinstance(leaf, Lag) else leaf


def _check(equation: Equation) -> None:
    """Refuse what cannot be parsed, or evaluated over columns."""
    if (part := nonfinite_constant(equation.expr)) is not None:
        raise ExpressionError(f"the equation {shown(equation.equation)}: {shown(to_text(part))} is not finite")
