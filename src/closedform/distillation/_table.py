"""Plain tables as regression data: anyone's columns and target, from memory or a file.

A table has no episodes, so no recurrence can be run over it: only what its columns hold. A column ``x_3`` beside a
column (or target) ``x`` is x three rows ago, and equations say ``lag(x, 3)``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from closedform._names import unknown_name_message
from closedform.errors import DataError, DistillationError, UnknownNameError
from closedform.lang import FUNCTIONS, INPUTS, LIMITS, Expr, Number, Program, Symbol, apply
from closedform.trajectories import Column, Trajectories

MAX_ROWS = 100_000
"""Rows that are kept; of more, so many are drawn at random."""
MAX_COLUMNS = 200
BLOCKS = 20
"""Parts that rows are dealt to; whole parts are held out."""
_RESERVED = {*FUNCTIONS, "lag", "prev", "lr", "step", "t"}


@dataclass(frozen=True, eq=False)
class Table:
    """Columns and a target.

    Attributes:
        names: The columns' names, identifiers.
        values: [N, F], float64.
        target: [N], float64, what equations are to give.
        target_name: Its name.
        notes: What was renamed or left out, one line each.
        source: Where it comes from; for provenance.
    """

    names: tuple[str, ...]
    values: np.ndarray
    target: np.ndarray
    target_name: str
    notes: tuple[str, ...] = ()
    source: str = "memory"

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Any],
        target: str,
        *,
        features: Sequence[str] | None = None,
        source: str = "memory",
    ) -> Table:
        """Choose target and features among named columns.

        Args:
            columns: Name -> numbers, [N] each.
            target: The name of the one to explain.
            features: Names of those to explain it by; None: all others.
            source: Where they come from; named in errors.

        Raises:
            UnknownNameError: no such column.
            DataError: a column is not made of numbers, lengths differ, or there are too many columns.
        """
        chosen = [name for name in columns if name != target] if features is None else list(dict.fromkeys(features))
        for name in (target, *chosen):
            if name not in columns:
                raise UnknownNameError(unknown_name_message("column", name, columns))
        if not chosen or target in chosen:
            raise DataError(f"{source}: give one column or more besides the target {target!r}")
        if len(chosen) > MAX_COLUMNS:
            raise DataError(f"{source}: {len(chosen)} columns; the limit is {MAX_COLUMNS}: name some as features")
        numbers = {name: _numbers(columns[name], name, source) for name in (target, *chosen)}
        if len({len(values) for values in numbers.values()}) > 1:
            raise DataError(f"{source}: the columns have different lengths")
        rows, notes = _drawn(len(numbers[target]))
        fresh = _identifiers((target, *chosen), notes)
        values = np.column_stack([numbers[name][rows] for name in chosen])
        return cls(tuple(fresh[1:]), values, numbers[target][rows].copy(), fresh[0], tuple(notes), source)

    def columns(self) -> tuple[Column, ...]:
        """What each column is: a signal, or another one's lag."""
        known = {*self.names, self.target_name}
        return tuple(_column(name, known) for name in self.names)

    def trajectories(self) -> Trajectories:
        """The table as a recording without episodes, whose rows are dealt to blocks that stand for them.

        Rows with lags are dealt in runs, since neighbours share values; others at random, the same way every time. In
        place of a program that computes the signals there is a stand-in; nothing is ever run over it.

        Raises:
            DistillationError: the target never changes, or there are too few rows.
        """
        _check(self)
        columns = self.columns()
        count = len(self.target)
        block = np.arange(count) * BLOCKS // count
        if not any(column.lag for column in columns):
            np.random.default_rng(0).shuffle(block)
        step = np.empty(count, np.int64)
        for number in range(BLOCKS):
            step[block == number] = 1 + np.arange(np.count_nonzero(block == number))
        nothing = torch.zeros(BLOCKS, int(step.max()), 0)
        none = torch.zeros(BLOCKS, 0, dtype=torch.int64)
        return Trajectories(
            columns=columns,
            features=torch.from_numpy(np.ascontiguousarray(self.values)),
            updates=torch.from_numpy(self.target),
            episode=torch.from_numpy(block.astype(np.int64)),
            step=torch.from_numpy(step),
            coordinate=torch.zeros(count, dtype=torch.int64),
            layer=torch.zeros(count, dtype=torch.int64),
            source=_stand_in([column.feature for column in columns]),
            gradients=nothing,
            weights=nothing,
            episode_updates=nothing,
            episodes=torch.arange(BLOCKS),
            episode_coordinates=none,
            episode_layers=none,
            provenance={"table": self.source, "target": self.target_name, "rows": count},
        )


def _numbers(values: Any, name: str, source: str) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{source}: column {name!r} holds something else than numbers; leave it out") from None
    if found.ndim != 1 or np.iscomplexobj(values):
        raise DataError(f"{source}: column {name!r} must be one real number a row")
    return found


def _drawn(count: int) -> tuple[Any, list[str]]:
    if count <= MAX_ROWS:
        return slice(None), []
    rows = np.sort(np.random.default_rng(0).choice(count, MAX_ROWS, replace=False))
    return rows, [f"{count:,} rows: {MAX_ROWS:,} of them are used, drawn at random"]


def _identifiers(names: Sequence[str], notes: list[str]) -> list[str]:
    """Names that the language can read; what is renamed is noted."""
    taken: set[str] = set(names)
    fresh: list[str] = []
    for name in names:
        stem = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_")[:50] or "column"
        stem = f"x{stem}" if stem[0].isdigit() else stem
        if name != stem and name.isidentifier() and name.isascii() and len(name) <= 50:
            stem = name
        if stem in _RESERVED or keyword.iskeyword(stem) or stem.startswith("cf_"):
            stem = f"{stem}_" if not stem.startswith("cf_") else f"x{stem}"
        new, number = stem, 1
        while new != name and new in taken:
            number += 1
            new = f"{stem}_b{number}"
        taken.add(new)
        if new != name:
            notes.append(f"column {name!r} is called {new} here")
        fresh.append(new)
    return fresh


def _column(name: str, known: set[str]) -> Column:
    stem, _, lag = name.rpartition("_")
    if stem in known and re.fullmatch(r"[1-9]\d{0,2}", lag) and int(lag) <= LIMITS.lag:
        return Column(stem, int(lag))
    return Column(name)


def _stand_in(signals: Sequence[str]) -> Program:
    """A program with these signals, no two alike."""
    unlike: dict[str, Expr] = {
        name: apply("mul", Number(index + 2), Symbol("w"))
        for index, name in enumerate(dict.fromkeys(signals))
        if name not in INPUTS
    }
    return Program({}, {}, unlike, {name: Symbol(name) for name in signals})


def _check(table: Table) -> None:
    from closedform.distillation._data import MIN_ROWS

    count = len(table.target)
    if count < MIN_ROWS:
        raise DistillationError(f"{table.source}: {count} rows; distillation needs at least {MIN_ROWS}")
    finite = table.target[np.isfinite(table.target)]
    if not len(finite):
        raise DistillationError(f"{table.source}: the target {table.target_name} is never finite")
    if finite.min() == finite.max():
        raise DistillationError(
            f"{table.source}: the target {table.target_name} is always {finite[0]:g}: there is nothing to explain"
        )
