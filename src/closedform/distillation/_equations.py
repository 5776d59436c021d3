"""Equations over a plain table's columns, as `distill_table` finds them; where rows are windows, they may be rules."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch

from closedform._document import Malformed, Many, read, shown
from closedform._options import with_options
from closedform._progress import OnRecord, Progress
from closedform.distillation._config import DistillConfig
from closedform.distillation._distill import search
from closedform.distillation._front import HIDDEN, MAX_ENTRIES, MOST_ROWS, RECORDED_ROWS, Evidence, Front, non_dominated
from closedform.distillation._hall import Buffers, Error, Formula, Nodes, Stage
from closedform.distillation._outcome import Scored, Told
from closedform.distillation.problem import (
    KNOWN,
    Candidate,
    Part,
    Problem,
    Scaled,
    Table,
    Window,
    checked,
    compose_rule,
    prepare,
    state_names,
)
from closedform.errors import ExpressionError, RuleError, UnknownNameError
from closedform.lang import (
    Expr,
    Lag,
    Program,
    Symbol,
    complexity,
    evaluate,
    lags,
    latex,
    names,
    nonfinite_constant,
    parse,
    rename,
    to_text,
    transform,
)
from closedform.rules import Rule


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
        window: The columns that are one signal's past; None if the table has no window.
        written: Where there is a window, the program that computes the states in ``equation``: the window's signal is
            its g; columns that no rule knows stand in it as constants.
    """

    equation: Formula
    complexity: Nodes
    state_cost: Buffers
    error: Error
    train_error: Error
    stage: Stage
    window: Window | None = None
    written: Rule | None = None

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

    @property
    def rule(self) -> Rule | None:
        """The whole rule, the window's signal its gradient; None if it reads columns that no rule knows."""
        if self.window is None or self.written is None:
            return None
        known = self._states | {self.window.signal, *KNOWN, *filter(None, [self.window.clock])}
        read = names(self.expr) | lags(self.expr).keys()
        return self.written if read <= known else None

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The target, [N].

        Args:
            columns: Name -> numbers, [N] each; a lag is the column ``x_k``.

        Raises:
            UnknownNameError: a column is missing.
        """
        states = self._states
        needed = names(transform(self.expr, _column_of)) - states
        if states and self.window is not None:
            needed |= {*self.window.columns, *filter(None, [self.window.clock])}
        if missing := sorted(needed - set(columns)):
            raise UnknownNameError(f"the equation {self.equation!r} also needs the columns {', '.join(missing)}")
        if not (states and self.window is not None and self.written is not None):
            return _values(self.expr, columns)
        return _values(self.expr, {**columns, **self.window.states(self.written, states, columns)})

    @property
    def _states(self) -> set[str]:
        """The states and named values that the equation reads."""
        program = self.written.program if self.written is not None else Program()
        return names(self.expr) & (program.state.keys() | program.where.keys())


@dataclass(frozen=True)
class EquationHall(Front[Equation]):
    """The outcome of `distill_table`; ``state_cost`` counts the values that must be remembered."""

    what = "hall of equations"
    format = "closedform.equations/1"
    counted_rows = MOST_ROWS

    @property
    def evidence(self) -> Evidence:
        """What errors were measured on, as far as it counts: windows are neighbours, as rows of a recording are."""
        most = RECORDED_ROWS if self.provenance.get("window") else self.counted_rows
        return Evidence.of(self.provenance, most)

    @classmethod
    def row(cls, entry: Equation) -> dict[str, Any]:
        """An equation as it is written; the program comes last."""
        row = {name: value for name, value in vars(entry).items() if value is not None}
        if entry.window is not None:
            row["window"] = dataclasses.asdict(entry.window)
        if entry.written is not None:
            row["written"] = entry.written.to_dict()
        return row

    @classmethod
    def from_document(cls, document: Any) -> EquationHall:
        """A file's content, parsed as JSON, but not checked.

        Raises:
            Malformed, ExpressionError: it is not a hall of equations of this version, or one is no expression.
        """
        found: _Document = read(document, _Document)
        entries = tuple(_entry(row, index) for index, row in enumerate(found.entries))
        for entry in entries:
            _check(entry)
        return cls(entries, found.provenance)


@dataclass(frozen=True)
class _Document:
    """The file."""

    format: Literal["closedform.equations/1"]
    provenance: Mapping[str, Any]
    entries: Annotated[tuple[_Row, ...], Many(MAX_ENTRIES)]


@dataclass(frozen=True)
class _Row:
    """An equation in the file."""

    equation: Formula
    complexity: Nodes
    state_cost: Buffers
    error: Error
    train_error: Error
    stage: Stage
    window: Window | None = None
    written: Mapping[str, Any] | None = None


def _entry(row: _Row, index: int) -> Equation:
    if (row.window is None) != (row.written is None):
        raise Malformed(f"entries[{index}]: a window and what is written over it come together")
    try:
        written = None if row.written is None else Rule.from_dict(row.written)
    except RuleError as error:
        raise Malformed(f"entries[{index}]: {error}") from None
    return Equation(**{**vars(row), "written": written})


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

    As `distill`. Recurrences and moving averages are searched where the table has a window, which is a truncated
    episode a row; elsewhere there are none.

    Args:
        table: From `load_table` or `Table.from_columns`.
        backend, config, progress, on_record, options: As for `distill`.

    Raises:
        DistillationError: the target never changes, too few rows, too many that are not finite.
        OptionError, UnknownNameError: as for `distill`.
    """
    config = with_options(config or DistillConfig(), options, "option of distill")
    scaled = Scaled.of(checked(table, config.nonfinite_limit))
    window, exact = scaled.window, scaled.exact if scaled.window is None else HIDDEN
    problem = prepare(scaled.table.samples(window), config, exact)
    outcome = search(functools.partial(_same, problem), backend, config, Told(progress, on_record), _always)
    judged = _Judged(table, scaled, problem)
    found = [equation for entry in outcome.entries if (equation := judged.equation(entry)) is not None]
    usable = [entry for entry in found if math.isfinite(entry.error) and entry.complexity <= config.max_complexity]
    provenance = {**outcome.provenance, **_provenance(table, window, outcome.provenance)}
    return EquationHall(non_dominated(usable, exact), provenance)


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

    def equation(self, entry: Scored) -> Equation | None:
        """An entry over the scaled columns as one over the table's own; None if its states cannot be written."""
        candidate = entry.candidate.live
        states = state_names(candidate, self.data.samples.source)
        expr = rename(parse(entry.equation), {new: old for old, new in self.inside.items()})
        train, test = (self.error_at(part, candidate, states) for part in (self.data.train, self.data.test))
        expr = self.scaled.whole(expr, train)
        written = self.written(expr, candidate, self.inside | {new: label for label, new in states.items()})
        if states and written is None:
            return None
        measured = (entry.state_cost, test(expr), train(expr), entry.stage)
        return Equation(to_text(expr), complexity(expr), *measured, self.scaled.window if written else None, written)

    def error_at(self, part: Part, candidate: Candidate, states: Mapping[str, str]) -> Callable[[Expr], float]:
        """A judge: 1 - R^2 at a part's rows; infinite if a prediction is not finite."""
        rows, y = part.rows.numpy(), part.y.numpy()
        columns = {name: self.table.values[rows, place] for place, name in enumerate(self.table.names)}
        values = part.values(candidate)
        columns |= {name: values[label].numpy() for label, name in states.items() if label in values}
        return functools.partial(self.error, columns=columns, y=y)

    def error(self, expr: Expr, columns: Mapping[str, np.ndarray], y: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            left = self.scaled.target.scaled(_values(expr, columns)) - y
            error = float(np.square(left).sum() / np.square(y - y.mean()).sum())
        return error if math.isfinite(error) else math.inf

    @cached_property
    def inside(self) -> dict[str, str]:
        """What the search calls the columns, where it does not call them as the table does."""
        return {} if self.scaled.window is None else self.scaled.window.inside(self.table.columns())

    def written(self, expr: Expr, candidate: Candidate, searched: Mapping[str, str]) -> Rule | None:
        """The program of an equation, under the names of the search; None if it is past the language's limits."""
        if self.scaled.window is None:
            return None
        provenance = {"source": "distilled by closedform", "table": self.table.source, "target": self.table.target_name}
        found = dataclasses.replace(candidate, expr=rename(expr, searched))
        try:
            rule = compose_rule(f"{self.table.target_name}-distilled", found, self.data.samples.source, provenance, {})
            return Rule.from_dict(rule.to_dict())
        except RuleError:
            return None


def _provenance(table: Table, window: Window | None, found: Mapping[str, Any]) -> dict[str, Any]:
    lagged = any(column.lag for column in table.columns())
    return {
        "table": table.source,
        "target": table.target_name,
        "columns": list(table.names),
        "window": None if window is None else dataclasses.asdict(window),
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
