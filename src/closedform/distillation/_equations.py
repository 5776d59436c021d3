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
from closedform.distillation._distill import search
from closedform.distillation._front import (
    MOST_ROWS,
    Evidence,
    close,
    least_error,
    non_dominated,
    shortest_description,
    smallest,
    within_limits,
)
from closedform.distillation._hall import (
    MAX_BYTES,
    MAX_ENTRIES,
    Buffers,
    Entry,
    Error,
    Formula,
    Nodes,
    Stage,
    front_table,
)
from closedform.distillation.problem import Data, Part, Scaled, Table, checked, prepare
from closedform.errors import CheckpointError, ExpressionError, UnknownNameError
from closedform.lang import (
    Expr,
    Lag,
    Symbol,
    complexity,
    evaluate,
    latex,
    names,
    nonfinite_constant,
    parse,
    to_text,
    transform,
)

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
        if missing := sorted(names(transform(self.expr, _column_of)) - set(columns)):
            raise UnknownNameError(f"the equation {self.equation!r} also needs the columns {', '.join(missing)}")
        return _values(self.expr, columns)


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
        self,
        *,
        max_complexity: int | None = None,
        max_state_cost: int | None = None,
        tolerance: float | None = None,
    ) -> Equation:
        """The equation to take: the one that describes the rows shortest.

        That is the least of n/2 log(1 - R^2) + 3 (complexity + state cost), in nats, with n the rows, at most 1,000,
        and R^2 over all of them. So an exact equation is never passed over, nor one better by more than its size:
        a node more must lower the error by the share 6/n.

        Args:
            max_complexity, max_state_cost: Only equations up to these are looked at.
            tolerance: In units of R^2: take the smallest equation within it of the best one instead.

        Raises:
            DistillationError: no equation is small enough.
        """
        allowed = within_limits(self.entries, max_complexity, max_state_cost)
        if tolerance is not None:
            return smallest(close(allowed, tolerance))
        return shortest_description(allowed, Evidence.of(self.provenance, MOST_ROWS))

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
    scaled = Scaled.of(checked(table, config.nonfinite_limit))
    trajectories = scaled.table.trajectories()
    hall = search(trajectories, backend, config, on_progress, exact=scaled.exact)
    judged = _Judged(table, scaled, prepare(trajectories, config, scaled.exact))
    found = [judged.equation(entry) for entry in hall.entries]
    usable = [entry for entry in found if math.isfinite(entry.error) and entry.complexity <= config.max_complexity]
    provenance = {**hall.provenance, **_provenance(table, hall.provenance)}
    return EquationHall(non_dominated(usable, scaled.exact), provenance)


@dataclass(frozen=True)
class _Judged:
    """Equations over a table's own columns, judged there; their errors are in units of the scaled target."""

    table: Table
    scaled: Scaled
    data: Data

    def equation(self, entry: Entry) -> Equation:
        """An entry over the scaled columns as an equation over the table's own."""
        expr = self.scaled.whole(parse(entry.equation), lambda expr: self.error(expr, self.data.train))
        held_out, train = self.error(expr, self.data.test), self.error(expr, self.data.train)
        return Equation(to_text(expr), complexity(expr), entry.state_cost, held_out, train, entry.stage)

    def error(self, expr: Expr, part: Part) -> float:
        """1 - R^2 at a part's rows; infinite if a prediction is not finite."""
        rows, y = part.rows.numpy(), part.y.numpy()
        columns = {name: self.table.values[rows, place] for place, name in enumerate(self.table.names)}
        with np.errstate(all="ignore"):
            left = self.scaled.target.scaled(_values(expr, columns)) - y
            error = float(np.square(left).sum() / np.square(y - y.mean()).sum())
        return error if math.isfinite(error) else math.inf


def _provenance(table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    lagged = any(column.lag for column in table.columns())
    return {
        "table": table.source,
        "target": table.target_name,
        "columns": list(table.names),
        "held_out": "runs of neighbouring rows" if lagged else "rows drawn at random",
        "notes": [*table.notes, *_missing(table), *found.get("notes", ())],
    }


def _missing(table: Table) -> list[str]:
    told = ", ".join(f"{name} {count}" for name, count in table.missing.items())
    return [f"missing or infinite values: {told}"] if told else []


def _values(expr: Expr, columns: Mapping[str, Any]) -> np.ndarray:
    expr = transform(expr, _column_of)
    values = {name: torch.as_tensor(np.asarray(columns[name], np.float64)) for name in names(expr)}
    return evaluate(expr, values).numpy()


def _column_of(leaf: Expr) -> Expr:
    return Symbol(f"{leaf.name}_{leaf.steps}") if isinstance(leaf, Lag) else leaf


def _check(equation: Equation) -> None:
    """Refuse what cannot be parsed, or evaluated over columns."""
    if (part := nonfinite_constant(equation.expr)) is not None:
        raise ExpressionError(f"the equation {shown(equation.equation)}: {shown(to_text(part))} is not finite")
