"""Plain tables as regression data: anyone's columns and target, from memory or a file.

A column ``x_3`` beside a column (or target) ``x`` is x three rows ago where the rows bear that out or where it is asked
for, and then equations say ``lag(x, 3)``. Where all lags of x are there up to some, each row is a window, over which
recurrences can be run (`Window`); other tables have no episodes, and equations read only what their columns hold.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from closedform._names import unknown_name_message
from closedform.distillation.problem._samples import MAX_ROWS, MIN_ROWS, Samples
from closedform.distillation.problem._table_columns import find_lags, numbers
from closedform.distillation.problem._windows import Window
from closedform.errors import DataError, DistillationError, UnknownNameError
from closedform.lang import FUNCTIONS
from closedform.trajectories import Column

MAX_COLUMNS = 200
CONSTANT = 2e-13
"""Range of a target, as a share of its size, that rounding may have made."""
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
        lags: Columns that are another one's past: name -> whose and how many rows ago.
        group: [N], rows of one number are held out together; None: each row is on its own.
    """

    names: tuple[str, ...]
    values: np.ndarray
    target: np.ndarray
    target_name: str
    notes: tuple[str, ...] = ()
    source: str = "memory"
    lags: Mapping[str, Column] = field(default_factory=dict)
    group: np.ndarray | None = None

    @classmethod
    def from_columns(
        cls,
        columns: Any,
        target: Any,
        *,
        features: Sequence[Any] | None = None,
        lags: bool | None = None,
        source: str = "memory",
    ) -> Table:
        """Choose target and features among named columns.

        Args:
            columns: Name -> numbers or dates, [N] each: a dict, a DataFrame of pandas or polars. Names may be anything;
                those that the language cannot read are changed, and noted.
            target: The name of the one to explain.
            features: Names of those to explain it by; None: all others.
            lags: Whether a column ``x_3`` beside ``x`` is x three rows ago: True: by its name; None: where the rows
                bear it out, or all lags from 1 to 5 or more are there; False: never.
            source: Where they come from; named in errors.

        Raises:
            UnknownNameError: no such column.
            DataError: a column is not made of numbers, lengths differ, or there are too many columns.
        """
        labels = label_names(columns, source)
        aim, *chosen = (_label(name, labels) for name in (target, *(features or ())))
        chosen = list(dict.fromkeys(chosen)) if features is not None else [name for name in labels if name != aim]
        if not chosen or aim in chosen:
            raise DataError(f"{source}: give one column or more besides the target {str(target)!r}")
        if len(chosen) > MAX_COLUMNS:
            raise DataError(f"{source}: {len(chosen)} columns; the limit is {MAX_COLUMNS}: name some as features")
        read = {name: numbers(columns[name], labels[name], source) for name in (aim, *chosen)}
        if len({len(values) for values, _ in read.values()}) > 1:
            raise DataError(f"{source}: the columns have different lengths")
        rows, notes = _drawn(len(read[aim][0]))
        originals = [labels[name] for name in (aim, *chosen)]
        fresh = _identifiers(originals, notes)
        notes += [note for _, note in read.values() if note]
        kept = {
            new: values for new, name, (values, _) in zip(fresh, originals, read.values(), strict=True) if new == name
        }
        found = find_lags(kept, fresh[1:], lags, notes)
        values = np.column_stack([read[name][0][rows] for name in chosen])
        return cls(tuple(fresh[1:]), values, read[aim][0][rows].copy(), fresh[0], tuple(notes), source, found)

    def columns(self) -> tuple[Column, ...]:
        """What each column is: a signal, or another one's lag."""
        return tuple(self.lags.get(name, Column(name)) for name in self.names)

    @property
    def missing(self) -> dict[str, int]:
        """How many values of each column and of the target are NaN or infinite, where some are and some are not."""
        each = {self.target_name: self.target} | dict(zip(self.names, self.values.T, strict=True))
        lost = {name: int(np.count_nonzero(~np.isfinite(values))) for name, values in each.items()}
        return {name: count for name, count in lost.items() if 0 < count < len(self.target)}

    def samples(self, window: Window | None = None) -> Samples:
        """The rows, dealt to blocks, which are held out whole; with a window, its episodes too.

        Rows with lags are dealt in runs, since neighbours share values; others at random, the same way every time.
        """
        columns = self.columns()
        count = len(self.target)
        block = self._dealt(shuffled=not any(column.lag for column in columns))
        step = np.empty(count, np.int64)
        for number in range(BLOCKS):
            step[block == number] = 1 + np.arange(np.count_nonzero(block == number))
        samples = Samples(
            columns=columns,
            features=torch.from_numpy(np.ascontiguousarray(self.values)),
            updates=torch.from_numpy(self.target),
            part=torch.from_numpy(block.astype(np.int64)),
            parts=[range(BLOCKS)],
            coordinate=torch.zeros(count, dtype=torch.int64),
            step=torch.from_numpy(step),
            provenance={"table": self.source, "target": self.target_name, "rows": count},
        )
        return samples if window is None else window.samples(samples)

    def _dealt(self, shuffled: bool) -> np.ndarray:
        """The block of each row, [N]; one for all rows of a group."""
        units = np.arange(len(self.target)) if self.group is None else np.unique(self.group, return_inverse=True)[1]
        block = np.arange(units.max() + 1) * BLOCKS // (units.max() + 1)
        if shuffled:
            np.random.default_rng(0).shuffle(block)
        return block[units]


def label_names(columns: Any, source: str) -> dict[Any, str]:
    """The labels of a dict's or a frame's columns, and their names as text, no two alike."""
    labels = list(columns) if isinstance(columns, Mapping) else list(getattr(columns, "columns", ()))
    if not labels:
        raise DataError(f"{source}: there is no column; give a dict of columns or a DataFrame")
    names: dict[Any, str] = {}
    for label in labels:
        if label in names or str(label) in names.values():
            raise DataError(f"{source}: two columns are called {str(label)!r}; rename one")
        names[label] = str(label)
    return names


def _label(name: Any, labels: Mapping[Any, str]) -> Any:
    """The label that is meant: itself, or the one that reads the same."""
    for label, text in labels.items():
        if text == str(name):
            return label
    raise UnknownNameError(unknown_name_message("column", str(name), dict.fromkeys(labels.values())))


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


def checked(table: Table, nonfinite_limit: float) -> Table:
    """The table, if equations can be found over it.

    Raises:
        DistillationError: the target never changes, there are too few rows, or more of them than the share
            ``nonfinite_limit`` lack a value: says in which columns, and how many.
    """
    count = len(table.target)
    if count < MIN_ROWS:
        raise DistillationError(f"{table.source}: {count} rows; distillation needs at least {MIN_ROWS}")
    finite = table.target[np.isfinite(table.target)]
    if not len(finite):
        raise DistillationError(f"{table.source}: the target {table.target_name} is never finite")
    largest = float(np.abs(finite).max())
    if not largest or float(np.ptp(finite / largest)) <= CONSTANT:
        raise DistillationError(
            f"{table.source}: the target {table.target_name} is always {finite[0]:g}: there is nothing to explain"
        )
    usable = np.isfinite(table.values).any(axis=0)
    whole = np.isfinite(table.values[:, usable]).all(axis=1) & np.isfinite(table.target)
    lost = count - int(np.count_nonzero(whole))
    if lost > nonfinite_limit * count:
        each = sorted(table.missing.items(), key=lambda item: -item[1])
        told = ", ".join(f"{name} {number}" for name, number in each[:5]) + (", ..." if len(each) > 5 else "")
        raise DistillationError(
            f"{table.source}: {lost} of {count} rows lack a value ({told}), more than the limit of "
            f"{nonfinite_limit:.0%}: fill them in, leave the column out (features), or raise nonfinite_limit"
        )
    return table
