"""Equations over a plain table's columns, as `distill_table` finds them. They are no rules: nothing trains by them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch

from closedform._document import Many, read, shown
from closedform._options import with_options
from closedform._progress import OnRecord, Progress
from closedform.distillation._config import DistillConfig
from closedform.distillation._distill import search
from closedform.distillation._front import MAX_ENTRIES, MOST_ROWS, Front, non_dominated
from closedform.distillation._hall import Buffers, Error, Formula, Nodes, Stage
from closedform.distillation._outcome import Scored, Told
from closedform.distillation.problem import Part, Problem, Scaled, Table, checked, prepare
from closedform.errors import ExpressionError, UnknownNameError
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
class EquationHall(Front[Equation]):
    """The outcome of `distill_table`; ``state_cost`` counts the values that must be remembered."""

    what = "hall of equations"
    format = "closedform.equations/1"
    counted_rows = MOST_ROWS

    @classmethod
    def row(cls, entry: Equation) -> dict[str, Any]:
        """An equation as it is written."""
        return dataclasses.asdict(entry)

    @classmethod
    def from_document(cls, document: Any) -> EquationHall:
        """A file's content, parsed as JSON, but not checked.

        Raises:
            Malformed, ExpressionError: it is not a hall of equations of this version, or one is no expression.
        """
        found: _Document = read(document, _Document)
        for entry in found.entries:
            _check(entry)
        return cls(found.entries, found.provenance)


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
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    **options: Any,
) -> EquationHall:
    """Distil a plain table: equations that give its target from its columns.

    As `distill`, without what needs episodes: no moving averages, no recurrences.

    Args:
        table: From `load_table` or `Table.from_columns`.
        backend, config, progress, on_record, options: As for `distill`.

    Raises:
        DistillationError: the target never changes, too few rows, too many that are not finite.
        OptionError, UnknownNameError: as for `distill`.
    """
    config = with_options(config or DistillConfig(), options, "option of distill")
    scaled = Scaled.of(checked(table, config.nonfinite_limit))
    problem = prepare(scaled.table.samples(), config, scaled.exact)
    outcome = search(functools.partial(_same, problem), backend, config, Told(progress, on_record), _always)
    judged = _Judged(table, scaled, problem)
    found = [judged.equation(entry) for entry in outcome.entries]
    usable = [entry for entry in found if math.isfinite(entry.error) and entry.complexity <= config.max_complexity]
    provenance = {**outcome.provenance, **_provenance(table, outcome.provenance)}
    return EquationHall(non_dominated(usable, scaled.exact), provenance)


def _same(problem: Problem, _: DistillConfig) -> Problem:
    """A table's problem is one for all seeds."""
    return problem


def _always(_: Scored) -> bool:
    """A table's equations need not be rules."""
    return True


@dataclass(frozen=True)
class _Judged:
    """Equations over a table's own columns, judged there; their errors are in units of the scaled target."""

    table: Table
    scaled: Scaled
    data: Problem

    def equation(self, entry: Scored) -> Equation:
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
