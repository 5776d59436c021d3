"""A table's columns as people have them: numbers, dates and gaps of many kinds; and which ones are another's past."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from closedform.errors import DataError
from closedform.lang import LIMITS
from closedform.trajectories import Column

MISSING = {"", "na", "n/a", "nan", "nat", "null", "none", "<na>"}
"""What a cell may say in place of a number; such rows are left out later on, and counted."""
BORNE_OUT, LEAST_PAIRS = 0.95, 10
"""Share of the rows that a lag must be right on, of those where x has changed since, and how many these must be."""
LEAST_LAGS = 5
"""Lags without a gap that make a window: through a shorter one no average can be seen."""
DAY = np.timedelta64(1, "D")


def numbers(values: Any, name: str, source: str) -> tuple[np.ndarray, str]:
    """A column as numbers, [N], float64, NaN where a value is missing; and what is to be noted about it, if anything.

    Dates are counted in days since the first one's day, durations in days.

    Raises:
        DataError: it holds something else, or more than one number a row.
    """
    found = _array(values)
    if found.ndim != 1 or np.iscomplexobj(found):
        raise DataError(f"{source}: column {name!r} must be one real number a row")
    try:
        if found.dtype.kind == "M":
            return _days(found, name)
        if found.dtype.kind == "m":
            return np.where(np.isnat(found), np.nan, found / DAY), f"column {name!r} holds durations: in days"
        if found.dtype.kind in "OUST":
            return np.array([_number(cell) for cell in found], np.float64), ""
        return np.asarray(found, np.float64), ""
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{source}: column {name!r} holds something else than numbers; leave it out") from None


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, np.ma.getdata(values))
    if str(getattr(values, "dtype", "")).startswith("datetime64[") and hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy(dtype="datetime64[ns]"))  # with a time zone pandas gives objects
    try:
        found = np.asarray(values)
    except ValueError:  # rows of different lengths
        return np.empty((0, 0))
    if found.dtype.kind == "O" and any(isinstance(cell, datetime.date) for cell in found.flat):
        dates = [cell if isinstance(cell, datetime.date) and cell == cell else None for cell in found.flat]
        odd = any(date is None and not _is_missing(cell) for date, cell in zip(dates, found.flat, strict=True))
        return found if odd else np.array([_naive(date) for date in dates], "datetime64[us]")
    return found


def _naive(date: datetime.date | None) -> datetime.date | None:
    """A date without its time zone, in UTC."""
    if isinstance(date, datetime.datetime) and date.tzinfo:
        return date.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return date


def _days(dates: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    gone = np.isnat(dates)
    if gone.all():
        return np.full(len(dates), np.nan), ""
    first = dates[~gone].min().astype("datetime64[D]")
    return np.where(gone, np.nan, (dates - first) / DAY), f"column {name!r} holds dates: in days since {first}"


def _number(cell: Any) -> float:
    return float("nan") if _is_missing(cell) else float(cell)


def _is_missing(cell: Any) -> bool:
    return cell is None or str(cell).strip().lower() in MISSING


def find_lags(
    columns: Mapping[str, np.ndarray], features: Sequence[str], wanted: bool | None, notes: list[str]
) -> dict[str, Column]:
    """The features that are another column some rows ago: name -> whose, how many.

    Args:
        columns: Those that go by their own names, the target among them, all rows in order.
        features: The features' names.
        wanted: True: all with such a name; None: those that the rows bear out, and whole windows: all lags of a feature
            up to some, ``LEAST_LAGS`` or more; False: none.
        notes: What was found is added.
    """
    named = {name: column for name in features if name in columns and (column := _by_name(name, columns))}
    if wanted is False or not named:
        return {}
    found = {name: column for name, column in named.items() if wanted or _borne_out(name, column, columns)}
    if found:
        said = ", ".join(f"{name} as {column.feature} {column.lag} rows ago" for name, column in found.items())
        notes.append(f"read as lags, {'by their names' if wanted else 'as the rows bear out'}: {said}")
    for window in [] if wanted else _windows(named, features):
        if further := [name for name in window if name not in found]:
            signal = window[further[0]].feature
            notes.append(f"read as a window of {signal}, a row each, by their names: {', '.join(further)}")
        found |= window
    if others := [name for name in named if name not in found]:
        told = ", ".join(others)
        notes.append(f"named like lags, but the rows do not bear it out: {told}; lags=True takes them for lags")
    return found


def _windows(named: Mapping[str, Column], features: Sequence[str]) -> list[dict[str, Column]]:
    """Lags of features that are there without a gap, enough of them to be windows."""
    lags = {(column.feature, column.lag): name for name, column in named.items()}
    runs = []
    for signal in features:
        reach = next(lag for lag in range(1, LIMITS.lag + 2) if (signal, lag) not in lags) - 1
        if reach >= LEAST_LAGS:
            runs.append({lags[signal, lag]: Column(signal, lag) for lag in range(1, reach + 1)})
    return runs


def _by_name(name: str, columns: Mapping[str, np.ndarray]) -> Column | None:
    stem, _, lag = name.rpartition("_")
    if stem in columns and re.fullmatch(r"[1-9]\d{0,2}", lag) and int(lag) <= LIMITS.lag:
        return Column(stem, int(lag))
    return None


def _borne_out(name: str, column: Column, columns: Mapping[str, np.ndarray]) -> bool:
    now, before = columns[column.feature][column.lag :], columns[column.feature][: -column.lag]
    claimed = columns[name][column.lag :]
    telling = np.isfinite(before) & np.isfinite(claimed) & (now != before)
    right = np.isclose(claimed[telling], before[telling], rtol=1e-6, atol=0)
    return len(right) >= LEAST_PAIRS and bool(right.mean() >= BORNE_OUT)
