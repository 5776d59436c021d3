"""Tables of any size and on any offset: what is searched is centred and scaled, what is found is in the table's units.

A column far from 0 for its spread is counted from the roundest number among its values, which float64 takes off without
an error (Sterbenz 1974); a very large or small one is counted in a power of ten. Other columns stay as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from closedform.distillation._tidy import tidy
from closedform.distillation.problem._candidate import DIGITS, constant_name, lag_name, lift_constants, put_constants
from closedform.distillation.problem._tables import CONSTANT, Table
from closedform.distillation.problem._windows import Window
from closedform.errors import ExpressionError
from closedform.lang import Expr, Lag, Number, Symbol, apply, complexity, transform

FAR = 1e-3
"""Range, as a share of the largest value, below which a column is counted from a number among its values."""
ORDINARY = 6
"""Powers of ten of a column's size, either way, that need no scaling."""
Judge = Callable[[Expr], float]


@dataclass(frozen=True)
class Scaling:
    """``value = centre + unit * z``, with z what is searched."""

    centre: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, values: np.ndarray) -> Scaling:
        """The scaling that values ask for, [...]; those that are not finite do not count."""
        finite = values[np.isfinite(values)]
        largest = float(np.abs(finite).max()) if finite.size else 0.0
        if not largest or float(np.ptp(finite / largest)) <= CONSTANT:  # nothing, or rounding alone
            return cls()
        low, high = float(finite.min()), float(finite.max())
        far = (low > 0 or high < 0) and 0 < high - low < FAR * largest
        centre = roundest(low, high) if far else 0.0
        size = max(abs(low - centre), abs(high - centre))
        power = math.floor(math.log10(size)) if size else 0
        return cls(centre, float(f"1e{power}") if abs(power) > ORDINARY else 1.0)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """What is searched, for values in the table's units."""
        return (values - self.centre) / self.unit

    def inside(self, leaf: Expr) -> Expr:
        """What is searched, written over the column ``leaf``."""
        shifted = apply("sub", leaf, Number(self.centre)) if self.centre else leaf
        if self.unit == 1:
            return shifted
        inverse = 1 / self.unit
        if math.isfinite(inverse):
            return apply("mul", Number(inverse), shifted)
        return apply("div", shifted, Number(self.unit))

    def outside(self, expr: Expr) -> Expr:
        """The value, where an expression gives what is searched."""
        whole = apply("mul", Number(self.unit), expr) if self.unit != 1 else expr
        return apply("add", whole, Number(self.centre)) if self.centre else whole


@dataclass(frozen=True)
class Scaled:
    """A table as it is searched.

    Attributes:
        table: Its columns and target, scaled; a window of ordinary offset is not.
        columns: Column name -> how; a lag as the column that it is one of.
        target: How the target is.
        window: The table's window, if it has one that starts from 0.
    """

    table: Table
    columns: Mapping[str, Scaling]
    target: Scaling
    window: Window | None = None

    @classmethod
    def of(cls, table: Table) -> Scaled:
        """Scale a table."""
        series: dict[str, list[np.ndarray]] = {}
        for place, column in enumerate(table.columns()):
            series.setdefault(column.feature, []).append(table.values[:, place])
        if table.target_name in series:  # lags of the target itself
            series[table.target_name].append(table.target)
        each = {name: Scaling.of(np.stack(parts)) for name, parts in series.items()}
        window = Window.of(dict(zip(table.names, table.values.T, strict=True)), table.lags)
        if window is not None and not each[window.signal].centre:
            each |= {name: Scaling() for name in (window.signal, window.clock) if name is not None}
        columns = {column.name: each[column.feature] for column in table.columns()}
        target = each.get(table.target_name) or Scaling.of(table.target)
        window = window if window is not None and each[window.signal] == Scaling() else None
        values = np.column_stack([columns[name].scaled(table.values[:, k]) for k, name in enumerate(table.names)])
        scaled = dataclasses.replace(table, values=values, target=target.scaled(table.target))
        return cls(scaled, columns, target, window)

    @property
    def plain(self) -> bool:
        """True if nothing had to be scaled."""
        return {*self.columns.values(), self.target} == {Scaling()}

    @property
    def exact(self) -> float:
        """1 - R^2 that rounding of the target to float64 may cause."""
        finite = self.table.target[np.isfinite(self.table.target)]
        largest = max(float(np.abs(finite).max()), abs(self.target.centre) / self.target.unit)
        return min(max(100 * (2.0**-52 * largest / float(finite.std())) ** 2, 1e-29), 1e-9)

    def whole(self, expr: Expr, judge: Judge) -> Expr:
        """An equation over the scaled columns as one over the table's own: the shortest form that says the same.

        Args:
            expr: The equation.
            judge: 1 - R^2 of an equation over the table's own columns.
        """
        if self.plain:
            return expr

        def own(leaf: Expr) -> Expr:
            if isinstance(leaf, Lag):
                return self.columns[lag_name(leaf)].inside(leaf)
            if isinstance(leaf, Symbol) and leaf.name in self.columns:  # others are states
                return self.columns[leaf.name].inside(leaf)
            return leaf

        plainly = self.target.outside(transform(expr, own))
        forms = [form for form in (plainly, _tidied(plainly)) if form is not None]
        forms = [*(form for form in map(_from_constants(judge, self.exact), forms) if form is not None), *forms]
        errors = [judge(form) for form in forms]
        limit = min(errors) * 1.01 + self.exact
        return min(
            (f for f, error in zip(forms, errors, strict=True) if error <= limit), key=complexity, default=plainly
        )


def roundest(low: float, high: float) -> float:
    """The number of fewest significant digits from ``low`` to ``high``, among those nearest their ends and middle."""
    for digits in range(1, 18):
        for value in (low, high, low + (high - low) / 2):
            rounded = float(f"{value:.{digits}g}")
            if low <= rounded <= high:
                return rounded
    return low


def _tidied(expr: Expr) -> Expr | None:
    try:
        return tidy(expr)
    except (ExpressionError, OverflowError):  # a constant that only parts of it can hold
        return None


def _from_constants(judge: Judge, exact: float) -> Callable[[Expr], Expr | None]:
    """A form with as few digits in its constants as cost nothing, and tidied then."""

    def shorter(expr: Expr) -> Expr | None:
        lifted, values = lift_constants(expr)
        limit = judge(expr) * 1.001 + exact
        for digits in DIGITS:
            constants = {constant_name(k): float(f"{value:.{digits}g}") for k, value in enumerate(values)}
            rounded = put_constants(lifted, constants)
            if judge(rounded) <= limit:
                return _tidied(rounded)
        return None

    return shorter
