"""Bounded values: an interval at each step, and what the value is made of where that is simple.

Intervals alone do not bound Adam, whose m and v may both be anything. So a value also carries

- ``linear``: it is sum_i K_i g_{t-i} with K_i = sum_p c_p a_p**i, as averages of the gradient are (keys a_p);
- ``least``: it is at least c times a `Form`, as sqrt(v) is at least a root of a sum of squares.

Then |m|/sqrt(v) <= sqrt(sum K_i^2/d**i) by the Cauchy-Schwarz inequality, for weights d**i of the squares.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias, TypeVar

import numpy as np
import torch

from closedform.lang import OPERATORS, Expr

Array: TypeAlias = np.ndarray
K = TypeVar("K")
TIMES = np.array([*range(1, 20_001), math.inf])
"""The steps that are looked at, and their limit."""
SPECTRAL = 1.21
"""Largest singular value that Newton-Schulz makes of those in [0, 1]: a x + b x^3 + c x^5 keeps [0, 1.21] in itself."""


class Kind(Enum):
    """Of a form, over the steps i back: ``SQUARES`` sum d**i g^2, ``ROOT`` of that, ``PEAK`` the largest d**i |g|.

    ``RMS`` and ``NORM`` are those of an expression over the tensor.
    """

    SQUARES = "squares"
    ROOT = "root"
    PEAK = "peak"
    RMS = "rms"
    NORM = "norm"


@dataclass(frozen=True)
class Form:
    """What a value is at least a multiple of; ``of`` is the decay d, or the expression of a norm."""

    kind: Kind
    of: float | Expr


@dataclass(frozen=True, eq=False)
class Value:
    """Bounds ``low``, ``high`` [steps], and what the value is made of, as the module says; coefficients [steps]."""

    low: Array
    high: Array
    linear: Mapping[float, Array] | None = None
    least: Mapping[Form, Array] = field(default_factory=dict)

    @property
    def point(self) -> bool:
        """Whether it is known exactly; in the limit it may be infinite, as t is."""
        return bool((self.low == self.high).all())

    @property
    def positive(self) -> bool:
        """Whether it is never negative."""
        return bool((self.low >= 0).all())

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return float(np.maximum(np.abs(self.low), np.abs(self.high)).max())

    @property
    def present(self) -> Array | None:
        """C where it is c times the present gradient."""
        return self.linear[0.0] if self.linear is not None and set(self.linear) == {0.0} else None

    def same(self, other: Value) -> bool:
        """Whether nothing differs."""
        ends = np.array_equal(self.low, other.low) and np.array_equal(self.high, other.high)
        return ends and _same(self.linear, other.linear) and _same(self.least, other.least)


def _same(x: Mapping[K, Array] | None, y: Mapping[K, Array] | None) -> bool:
    if x is None or y is None:
        return x is y
    return x.keys() == y.keys() and all(np.array_equal(x[key], y[key]) for key in x)


def between(low: float, high: float) -> Value:
    """Anything from ``low`` to ``high``."""
    return Value(np.full(len(TIMES), float(low)), np.full(len(TIMES), float(high)))


UNKNOWN = between(-math.inf, math.inf)


def gradient() -> Value:
    """Any gradient."""
    return replace(UNKNOWN, linear={0.0: np.ones(len(TIMES))})


def points(values: Array | float) -> Value:
    """Known values."""
    values = np.broadcast_to(np.asarray(values, dtype=float), (len(TIMES),))
    return Value(values, values) if np.isfinite(values[:-1]).all() else UNKNOWN


def hull(*values: Value) -> Value:
    """One interval for all steps and all values."""
    return between(min(float(v.low.min()) for v in values), max(float(v.high.max()) for v in values))


def before(value: Value) -> Value:
    """The value one step earlier, 0 before the start."""
    linear: dict[float, Array] | None = None
    if value.linear is not None and 0.0 not in value.linear and all(_steady(c) for c in value.linear.values()):
        linear = {decay: c / decay for decay, c in value.linear.items()}
        linear[0.0] = -sum(linear.values(), np.zeros(len(TIMES)))
    return replace(hull(value, between(0, 0)), linear=linear)


def _steady(coefficient: Array) -> bool:
    return bool((coefficient == coefficient[0]).all())


def averaged(decay: float, new: Value, start: Value) -> Value:
    """The state ``s <- decay*s + new``, for 0 <= decay <= 1, from ``start`` on."""
    grown = hull(new, between(0, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.array([float(grown.low[0]), float(grown.high[0])]) / (1 - decay)
    low, high = np.nan_to_num(ends, nan=0.0, posinf=math.inf, neginf=-math.inf)
    made = hull(between(low, high), start)
    if new.present is not None and _steady(new.present) and start.size == 0:
        made = replace(made, linear={decay: new.present})
    squares = new.least.get(Form(Kind.SQUARES, 0.0))
    if squares is not None and _steady(squares) and start.positive:
        made = replace(made, least={Form(Kind.SQUARES, decay): squares})
    return made


def peaked(decay: float, new: Value, start: Value) -> Value:
    """The state ``s <- max(decay*s, new)``, for 0 <= decay <= 1."""
    peak = new.least.get(Form(Kind.PEAK, 0.0))
    least = {} if peak is None or not _steady(peak) else {Form(Kind.PEAK, decay): peak}
    return replace(hull(new, start), least={**new.least, **least})


def ratio(above: Value, written: Expr, below: Value, numel: float) -> Array:
    """A bound of |above/below| at each step; infinite where nothing is known.

    Args:
        above: The value above.
        written: As what it is written, which norms below may be of.
        below: The value below.
        numel: Elements of the tensor.
    """
    best = np.full(len(TIMES), math.inf)
    for form, coefficient in below.least.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _over(form, above, written, numel) / coefficient
        best = np.fmin(best, found)
    return best


def _over(form: Form, above: Value, written: Expr, numel: float) -> Array:
    nothing = np.full(len(TIMES), math.inf)
    if form.kind in (Kind.RMS, Kind.NORM):
        size = math.sqrt(numel) if form.kind is Kind.RMS else 1.0
        return np.full(len(TIMES), size) if form.of == written else nothing
    if above.linear is None or form.kind is Kind.SQUARES or not isinstance(form.of, float):
        return nothing
    if form.kind is Kind.PEAK:
        parts = [np.abs(c) * _series(a, form.of) for a, c in above.linear.items()]
        return np.asarray(sum(parts, np.zeros(len(TIMES))))
    pairs = itertools.product(above.linear.items(), repeat=2)
    squared = sum((c * k * _series(a * b, form.of) for (a, c), (b, k) in pairs), np.zeros(len(TIMES)))
    return np.sqrt(np.maximum(squared, 0))


def _series(decay: float, weight: float) -> Array:
    """sum_{i < t} (decay/weight)**i, where 0/0 is 0 beyond i = 0."""
    if decay == 0:
        return np.ones(len(TIMES))
    q = decay / weight if weight else math.inf
    if q == 1 or math.isinf(q):
        return TIMES if q == 1 else np.full(len(TIMES), math.inf)
    with np.errstate(over="ignore"):
        return (1 - np.power(q, TIMES)) / (1 - q)


# Operators.


def times(x: Value, y: Value) -> Value:
    """The product; 0 times anything is 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.stack([a * b for a in (x.low, x.high) for b in (y.low, y.high)])
    corners = np.where(np.isnan(corners), 0.0, corners)
    made = Value(corners.min(axis=0), corners.max(axis=0))
    for number, other in ((x, y), (y, x)):
        if number.point:
            linear = None if other.linear is None else {key: c * number.low for key, c in other.linear.items()}
            least = {key: c * number.low for key, c in other.least.items()} if number.positive else {}
            return replace(made, linear=linear, least=least)
    return made


def inverse(x: Value) -> Value:
    """1/x."""
    if bool(((x.low > 0) | (x.high < 0)).all()):
        return Value(1 / x.high, 1 / x.low)
    if x.positive and bool((x.high > 0).all()):
        return Value(1 / x.high, np.full(len(TIMES), math.inf))
    return UNKNOWN


def negated(x: Value) -> Value:
    """-x."""
    return Value(-x.high, -x.low, None if x.linear is None else {key: -c for key, c in x.linear.items()})


def _add(x: Value, y: Value) -> Value:
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = x.low + y.low, x.high + y.high
    made = Value(np.where(np.isnan(low), -math.inf, low), np.where(np.isnan(high), math.inf, high))
    if x.linear is not None and y.linear is not None:
        nothing = np.zeros(len(TIMES))
        keys = {*x.linear, *y.linear}
        made = replace(made, linear={key: x.linear.get(key, nothing) + y.linear.get(key, nothing) for key in keys})
    least = {key: c for one, other in ((x, y), (y, x)) if other.positive for key, c in one.least.items()}
    least |= {key: x.least[key] + y.least[key] for key in x.least.keys() & y.least.keys()}
    return replace(made, least=least)


def _monotone(name: str) -> Callable[[Value], Value]:
    def row(x: Value) -> Value:
        low, high = (OPERATORS[name].torch(torch.from_numpy(end.copy())).numpy() for end in (x.low, x.high))
        return Value(np.where(np.isnan(low), -math.inf, low), np.where(np.isnan(high), math.inf, high))

    return row


def _magnitude(x: Value) -> Value:
    sizes = np.abs(x.low), np.abs(x.high)
    inside = (x.low <= 0) & (x.high >= 0)
    least = {} if x.present is None else {Form(Kind.PEAK, 0.0): np.abs(x.present)}
    return Value(np.where(inside, 0.0, np.minimum(*sizes)), np.maximum(*sizes), least=least)


def _square(x: Value) -> Value:
    size = _magnitude(x)
    least = {} if x.present is None else {Form(Kind.SQUARES, 0.0): np.square(x.present)}
    with np.errstate(over="ignore"):
        return Value(np.square(size.low), np.square(size.high), least=least)


def _root(x: Value) -> Value:
    high = np.where(x.high < 0, math.inf, np.sqrt(np.maximum(x.high, 0)))
    least = {Form(Kind.ROOT, form.of): np.sqrt(c) for form, c in x.least.items() if form.kind is Kind.SQUARES}
    return Value(np.sqrt(np.maximum(x.low, 0)), high, least=least)


def _root_of_size(x: Value) -> Value:
    return _root(x) if x.positive else _root(_magnitude(x))


def _power(x: Value, y: Value) -> Value:
    exponent = float(y.low[0])
    if not y.point or not _steady(y.low):
        inside = x.positive and bool((x.high <= 1).all()) and y.positive
        return between(0, 1) if inside else UNKNOWN
    if exponent < 0:
        return inverse(_power(x, points(-exponent)))
    if exponent in (0.5, 2):
        return _square(x) if exponent == 2 else _root(x)
    if x.positive:
        return Value(x.low**exponent, x.high**exponent)
    size = _magnitude(x)
    return Value(size.low**exponent, size.high**exponent) if exponent % 2 == 0 else UNKNOWN


def _signed_power(x: Value, y: Value) -> Value:
    if not y.point or not bool((y.low > 0).all()):
        return UNKNOWN
    return Value(*(np.sign(end) * np.abs(end) ** y.low for end in (x.low, x.high)))


def _smaller(x: Value, y: Value) -> Value:
    return Value(np.minimum(x.low, y.low), np.minimum(x.high, y.high))


def larger(x: Value, y: Value) -> Value:
    """max(x, y): at least what either is."""
    return Value(np.maximum(x.low, y.low), np.maximum(x.high, y.high), least={**x.least, **y.least})


def _either(condition: Value, x: Value, y: Value) -> Value:
    if condition.point:
        chosen = condition.low != 0
        return Value(np.where(chosen, x.low, y.low), np.where(chosen, x.high, y.high))
    return Value(np.minimum(x.low, y.low), np.maximum(x.high, y.high))


def _greater(x: Value, y: Value) -> Value:
    return Value(np.where(x.low > y.high, 1.0, 0.0), np.where(x.high <= y.low, 0.0, 1.0))


_INCREASING = ("sign", "cube", "exp", "log", "tanh", "sinh", "asinh", "erf", "relu")
ROWS: dict[str, Callable[..., Value]] = {
    "add": _add,
    "sub": lambda x, y: _add(x, negated(y)),
    "pow": _power,
    "spow": _signed_power,
    "abs": _magnitude,
    "square": _square,
    "sqrt": _root,
    "ssqrt": _root_of_size,
    "slog": lambda x: _monotone("slog")(_magnitude(x)),
    "erfc": lambda x: _monotone("erfc")(Value(x.high, x.low)),
    **{name: _monotone(name) for name in _INCREASING},
    "min": _smaller,
    "max": larger,
    "clip": lambda x, low, high: _smaller(larger(x, low), high),
    "greater": _greater,
    "where": _either,
    **dict.fromkeys(("mean", "row_mean", "col_mean"), lambda x: Value(x.low, x.high)),
    "orthogonalise": lambda x: between(0, 0) if x.size == 0 else between(-SPECTRAL, SPECTRAL),
}
"""Bounds of an operator's result from those of its arguments; norms and products have more to go by, see `_bounds`."""
