"""Tables from files: csv, npy, parquet. A file is untrusted input: sizes are bounded, and nothing in it is run."""

from __future__ import annotations

import ast
import csv
import math
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from closedform._names import unknown_name_message
from closedform.distillation.problem._table_columns import DAY, MISSING
from closedform.distillation.problem._tables import Table
from closedform.errors import DataError, OptionError, UnknownNameError

MAX_FILE_BYTES = 2**30
MAX_VALUES = 2**28
MAX_HEADER = 10_000
"""Bytes of an ``.npy`` header, which is read as a Python literal."""
_EPOCH = np.datetime64("1970-01-01", "us")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?)Z?")


def load_table(
    path: str | Path,
    target: str | None = None,
    *,
    features: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    lags: bool | None = None,
) -> Table:
    """Read a table from a file.

    Args:
        path: ``.csv`` (names in the first line; comma, semicolon or tab), ``.npy`` (a structured array, or two
            dimensions with ``columns``; never pickles), or ``.parquet`` (needs pyarrow).
        target: The column to explain; by default the last one.
        features: Columns to explain it by; None: all others. Further columns are not looked at.
        columns: The columns' names, for an ``.npy`` file that has none.
        lags: Whether ``x_3`` is x three rows ago; as for `Table.from_columns`.

    Raises:
        DataError: the file is missing, too large, damaged, or holds something else than numbers; says where.
        UnknownNameError: no such column.
        OptionError: not a kind of file that can be read, or names are missing.
    """
    path = Path(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise OptionError(f"cannot read {path}: a table is a {', '.join(READERS)} file")
    _check_size(path)
    names, values = read(path, columns, _wanted(target, features))
    if not names:
        raise DataError(f"{path}: there is no column")
    return Table.from_columns(values, target or names[-1], features=features, lags=lags, source=path.name)


def _wanted(target: str | None, features: Sequence[str] | None) -> set[str] | None:
    return None if features is None or target is None else {target, *features}


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if size > MAX_FILE_BYTES:
        raise DataError(f"{path} has {size:,} bytes; the limit is {MAX_FILE_BYTES:,}: save fewer rows, or as .npy")


Read = tuple[Sequence[str], Mapping[str, Any]]


def _read_csv(path: Path, columns: Sequence[str] | None, wanted: set[str] | None) -> Read:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            rows = csv.reader(chain([first], file), delimiter=delimiter)
            return _read_rows(path, rows, wanted)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text table: {str(error)[:80]}") from None


def _read_rows(path: Path, rows: Iterator[list[str]], wanted: set[str] | None) -> Read:
    names = [name.strip() for name in next(rows, [])]
    if not names or all(_is_number(name) for name in names):
        raise DataError(f"{path}: the first line must name the columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}; rename one")
    kept = [index for index, name in enumerate(names) if wanted is None or name in wanted]
    values = array("d")
    dated: set[int] = set()  # columns of dates, in days since 1970
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            if not row:
                continue
            raise DataError(f"{path}, line {number}: {len(row)} cells; the first line names {len(names)} columns")
        try:
            values.extend([_date_or_number(row[index], index in dated) for index in kept])
        except ValueError:
            for place, index in enumerate(kept):
                if _day(row[index]) is not None and all(map(math.isnan, values[place :: len(kept)])):
                    dated.add(index)
            values.extend([_cell(path, number, names[index], row[index], index in dated) for index in kept])
    table = np.frombuffer(values).reshape(-1, len(kept)) if values else np.empty((0, len(kept)))
    found = {names[k]: _dates(table[:, place]) if k in dated else table[:, place] for place, k in enumerate(kept)}
    return names, found if wanted is None else {**dict.fromkeys(names, ()), **found}


def _cell(path: Path, line: int, column: str, text: str, dated: bool) -> float:
    if text.strip().lower() in MISSING:
        return float("nan")
    if dated:
        day = _day(text)
        if day is None:
            raise DataError(f"{path}, line {line}, column {column!r}: {text[:40]!r} is no date, as those above are")
        return day
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{path}, line {line}, column {column!r}: {text[:40]!r} is not a number; "
            "make it one, or name the features to use"
        ) from None


def _date_or_number(text: str, dated: bool) -> float:
    if not dated:
        return float(text)
    day = _day(text)
    if day is None:
        raise ValueError
    return day


def _day(text: str) -> float | None:
    """Days since 1970 of a date as ISO 8601 has it, perhaps with a time of day; None for other texts."""
    match = _DATE.fullmatch(text.strip())
    try:
        return float((np.datetime64(match[1], "us") - _EPOCH) / DAY) if match else None
    except ValueError:  # no such day
        return None


def _dates(days: np.ndarray) -> np.ndarray:
    """Days since 1970 as dates, whole to the microsecond."""
    known = np.where(np.isnan(days), 0.0, days)
    return np.where(np.isnan(days), np.datetime64("NaT"), np.rint(known * 86_400e6).astype("datetime64[us]"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_npy(path: Path, columns: Sequence[str] | None, wanted: set[str] | None) -> Read:
    values = _mapped(path)
    if values.dtype.names:
        return values.dtype.names, {name: values[name].reshape(-1) for name in values.dtype.names}
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise DataError(
            f"{path} must hold numbers in two dimensions [rows, columns], not {values.dtype} {values.shape}"
        )
    names = list(columns or ())
    if len(names) != values.shape[1] or len(set(names)) < len(names):
        raise OptionError(f"{path} has {values.shape[1]} columns without names: give as many different ones (columns)")
    return names, {name: values[:, index] for index, name in enumerate(names)}


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    """The array in an ``.npy`` file, whose header, a Python literal, is checked before numpy reads it."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
            header = ast.literal_eval(file.read(min(size, MAX_HEADER)).decode("latin-1").strip())
        if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
            raise ValueError("its header is none")
        values: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return values
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0][:100]
        raise DataError(f"{path} is not an array of numbers: {reason}") from None


def _read_parquet(path: Path, columns: Sequence[str] | None, wanted: set[str] | None) -> Read:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise OptionError(f"to read {path} install pyarrow: pip install pyarrow; or save it as .csv") from None
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        for name in wanted or ():
            if name not in names:
                raise UnknownNameError(unknown_name_message("column", name, dict.fromkeys(names)))
        count = file.metadata.num_rows * len(wanted or names)  # a small file may unpack to a large table
        if count > MAX_VALUES:
            raise DataError(f"{path} holds {count:,} values; the limit is {MAX_VALUES:,}: name fewer features, or rows")
        table = parquet.read_table(path, columns=None if wanted is None else sorted(wanted))
        return names, {name: table.column(name).to_numpy() for name in table.column_names}
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:  # names of columns may be no text
        raise DataError(f"{path} is not a parquet file: {(str(error).splitlines() or ['damaged'])[0][:100]}") from None


READERS: dict[str, Callable[[Path, Sequence[str] | None, set[str] | None], Read]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
