"""Bounds of a program's values by interval arithmetic, with what is known of averages of the gradient.

Every value has bounds at some steps t. Intervals alone would not bound Adam, whose m and v may both be anything; so
values also carry what they are made of, where it is simple:

- ``linear``: the value is sum_i L[t, i] g_{t-i}, as m is;
- ``quadratic``, ``root``: at least sum_i Q[t, i] g_{t-i}^2, or the root of such a sum, as v and sqrt(v) + eps are;
- ``peak``: it is at least P[t, i] |g_{t-i}| for every i, as Adamax's u is.

Then |m|/sqrt(v) <= sqrt(sum L^2/Q) by the Cauchy-Schwarz inequality, and |m|/u <= sum |L|/P.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from closedform.lang import (
    OPERATORS,
    Apply,
    Expr,
    Kind,
    Lag,
    Number,
    Program,
    Symbol,
    initial_memory,
    lags,
    names,
    step,
)

STEPS = 4096
"""The last step that is looked at."""
TIMES = np.unique(np.round(np.geomspace(1, STEPS, 48)).astype(int))
"""The steps that are looked at; a program that does not read t is the same at all later ones, but for its start."""
SPECTRAL = 1.21
"""Bound of what five Newton-Schulz steps make of singular values in [0, 1]: a x + b x^3 + c x^5 stays in [0, 1.21]."""
ROUNDS = 40
"""Rounds in which the bounds of states may settle before they are given up."""

Array = np.ndarray


@dataclass(frozen=True)
class Value:
    """Bounds [times] of a value, and what it is made of, [times, lags], as the module says."""

    low: Array
    high: Array
    linear: Array | None = None
    quadratic: Array | None = None
    root: Array | None = None
    peak: Array | None = None

    @property
    def point(self) -> bool:
        """Whether it is known exactly."""
        return bool((self.low == self.high).all()) and bool(np.isfinite(self.low).all())

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return float(np.maximum(np.abs(self.low), np.abs(self.high)).max())

    @property
    def zero(self) -> bool:
        """Whether it is 0 at all times."""
        return self.size == 0


class Bounds:
    """Bounds of a folded program's values when ``g`` and ``w`` lie in the given intervals."""

    def __init__(
        self, program: Program, g: tuple[float, float] = (-math.inf, math.inf), w: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.program = program
        self.inputs = {"g": _between(*g), "w": _between(*w), "t": _points(TIMES)}
        self.inputs |= {"progress": _between(0, 1), "ndim": _between(0, 64), "T": _between(1, math.inf)}
        self.inputs |= dict.fromkeys(("numel", "fan_in", "fan_out"), _between(1, math.inf))
        if g[0] != g[1]:
            now = np.zeros((len(TIMES), STEPS))
            now[:, 0] = 1
            self.inputs["g"] = replace(self.inputs["g"], linear=now)
        self.states = self._uniform_states() | self._kernels()
        self._settle()

    def output(self, name: str = "update") -> Value:
        """Bounds of an output."""
        known = self.known
        return self.value(self.program.outputs[name], known)

    @cached_property
    def known(self) -> dict[str, Value]:
        """Names of the present step."""
        known = {**self.inputs, **self.states}
        for name, expr in self.program.where.items():
            known[name] = self.value(expr, known)
        return known

    def _uniform_states(self) -> dict[str, Value]:
        """States that are the same for all parameters: run."""
        names_ = [name for name in self.program.state if self.program.kinds[name] is Kind.UNIFORM]
        horizon = {name for name in names_ if self._depends(name, {"T", "progress"})}
        exact = [name for name in names_ if name not in horizon and name not in self.program.init]
        if not exact:
            return {}
        part = Program({}, {name: self.program.state[name] for name in exact}, {}, {})
        history = _run(part, lambda t: 0.0)
        return {name: _points(np.array([history[name][t - 1] for t in TIMES])) for name in exact}

    def _kernels(self) -> dict[str, Value]:
        """Averages of g, and of g^2, by their answer to one gradient."""
        found: dict[str, Value] = {}
        if self.inputs["g"].linear is None:
            return found
        for name, of_squares in _averages(self.program).items():
            part = Program({}, {name: self.program.state[name]}, {}, {})
            pulse, rest = (_run(part, lambda t, size=size: size * (t == 1))[name] for size in (1.0, 0.0))
            kernel = np.tile(np.array(pulse) - np.array(rest), (len(TIMES), 1))
            if of_squares:
                found[name] = Value(*_nonnegative(), quadratic=kernel)
            else:
                found[name] = replace(_between(-math.inf, math.inf), linear=kernel)
        return found

    def _depends(self, name: str, on: set[str]) -> bool:
        reached, frontier = set(), [name]
        while frontier:
            found = frontier.pop()
            if found not in reached:
                reached.add(found)
                expr = self.program.state.get(found)
                frontier += [*names(expr), *lags(expr)] if expr is not None else []
        return bool(reached & on)

    def _settle(self) -> None:
        """Bounds of the other states: from 0, or their initial value, until they hold from step to step."""
        open_ = {name: expr for name, expr in self.program.state.items() if name not in self.states}
        past = [name for name in self.program.where if any(name in lags(e) for e in self.program.expressions())]
        self.states |= {name: _between(0, 0) for name in (*open_, *past)}
        for name, expr in self.program.init.items():
            self.states[name] = _hull(self.value(expr, self.inputs))
        moved: dict[str, tuple[float, float]] = {}
        for turn in range(ROUNDS):
            stable = True
            self.__dict__.pop("known", None)
            old = {**self.inputs, **{name: self._before(value) for name, value in self.states.items()}}
            new = {name: self.value(expr, old, old) for name, expr in open_.items()}
            new = {name: self._with_peak(name, value) for name, value in new.items()}
            new |= {name: self.known[name] for name in past}
            for name, value in new.items():
                kept, found = self.states[name], _hull(value)
                low, high = min(float(kept.low[0]), float(found.low[0])), max(float(kept.high[0]), float(found.high[0]))
                rise = (float(kept.low[0]) - low, high - float(kept.high[0]))
                if any(rise):
                    stable = False
                    low, high = _guessed(low, high, rise, moved.get(name), turn)
                    moved[name] = rise
                self.states[name] = replace(
                    value, low=np.full(len(TIMES), low), high=np.full(len(TIMES), high), linear=None
                )
            if stable:
                break
        else:
            raise AssertionError("widening always ends")
        self.__dict__.pop("known", None)

    def _with_peak(self, name: str, value: Value) -> Value:
        """``u <- max(d*u, |g| + ...)`` is at least d^i |g_{t-i}|."""
        expr = self.program.state[name]
        if isinstance(expr, Apply) and expr.op == "max":
            for kept, new in (expr.args, expr.args[::-1]):
                scaled = isinstance(kept, Apply) and kept.op == "mul" and Symbol(name) in kept.args
                if isinstance(kept, Apply) and scaled:
                    factor = next((arg.value for arg in kept.args if isinstance(arg, Number)), None)
                    found = self.value(new, self.inputs) if names(new) <= {"g"} else None
                    if factor is not None and 0 < factor <= 1 and found is not None and found.peak is not None:
                        return replace(value, peak=found.peak[:, :1] * factor ** np.arange(STEPS))
        return value

    def _before(self, value: Value) -> Value:
        """A state's value one step earlier."""
        if value.point:
            return _between(min(0.0, float(value.low.min())), max(0.0, float(value.high.max())))
        shifted = {name: _shift(getattr(value, name), 1) for name in ("linear", "quadratic", "root", "peak")}
        low, high = np.minimum(value.low, 0), np.maximum(value.high, 0)
        return Value(low, high, **shifted)

    def value(self, expr: Expr, known: Mapping[str, Value], states: Mapping[str, Value] | None = None) -> Value:
        """Bounds of an expression given those of its names; ``states``: those of the last step."""
        if isinstance(expr, Number):
            return _points(np.full(len(TIMES), expr.value))
        if isinstance(expr, Symbol):
            return known[expr.name]
        if isinstance(expr, Lag):
            base = {**self.inputs, **self.states}[expr.name]
            for _ in range(expr.steps):
                base = self._before(base)
            return base
        if expr.op in ("mul", "div", "neg"):
            return self._product(expr, known, states)
        args = [self.value(arg, known, states) for arg in expr.args]
        if all(arg.point for arg in args) and not OPERATORS[expr.op].reduces:
            return _points(OPERATORS[expr.op].torch(*[torch.from_numpy(arg.low) for arg in args]).numpy())
        row = _ROWS.get(expr.op)
        return row(*args) if row else _between(-math.inf, math.inf)

    def _product(self, expr: Apply, known: Mapping[str, Value], states: Mapping[str, Value] | None) -> Value:
        above, below, sign = [], [], 1.0
        for factor, inverse in _factors(expr):
            if factor is None:
                sign = -sign
            else:
                (below if inverse else above).append(self.value(factor, known, states))
        result, kept = _points(np.full(len(TIMES), sign)), list(below)
        for factor in above:
            best = min(
                ((ratio_bound(factor, other), index) for index, other in enumerate(kept)),
                key=lambda item: item[0].max(),
                default=None,
            )
            if best is not None and np.isfinite(best[0]).all():
                kept.pop(best[1])
                factor = Value(-best[0], best[0])
            result = _times(result, factor)
        for factor in kept:
            result = _times(result, _inverse(factor))
        return result


def ratio_bound(above: Value, below: Value) -> Array:
    """Bound of |above/below| at each time, by Cauchy-Schwarz; infinite where nothing is known."""
    best = np.full(len(TIMES), math.inf)
    if above.linear is None:
        return best
    there = np.arange(STEPS) < TIMES[:, None]
    used = there & (above.linear != 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if below.root is not None:
            best = np.minimum(best, np.sqrt(np.where(used, above.linear**2 / below.root, 0).sum(axis=1)))
        if below.peak is not None:
            best = np.minimum(best, np.where(used, np.abs(above.linear) / below.peak, 0).sum(axis=1))
    return np.where(np.isnan(best), math.inf, best)


def _averages(program: Program) -> dict[str, bool]:
    """States s <- a*s + b*g + c with numbers a, b: name -> False; those of g^2, a, b, c >= 0: True."""
    found = {}
    for name, expr in program.state.items():
        if program.init.get(name) is None and (kinds := _terms(expr, name)) is not None:
            if kinds <= {"self", "g"}:
                found[name] = False
            elif kinds <= {"self", "g^2", "number"}:
                found[name] = True
    return found


def _terms(expr: Expr, name: str, sign: float = 1.0) -> set[str] | None:
    """What a sum is made of; numbers in front are of either sign for g, not negative otherwise."""
    if isinstance(expr, Apply) and expr.op in ("add", "sub"):
        first = _terms(expr.args[0], name, sign)
        second = _terms(expr.args[1], name, -sign if expr.op == "sub" else sign)
        return None if first is None or second is None else first | second
    factors = list(_factors(expr))
    kinds = [_term_kind(factor, name) for factor, inverse in factors if factor is not None]
    numbers = [factor.value for factor, inverse in factors if isinstance(factor, Number)]
    sign *= math.prod(numbers) * (-1) ** sum(factor is None for factor, _ in factors)
    if any(inverse and not isinstance(factor, Number) for factor, inverse in factors) or "" in kinds:
        return None
    others = [kind for kind in kinds if kind != "number"]
    kind = {(): "number", ("self",): "self", ("g",): "g", ("g^2",): "g^2", ("g", "g"): "g^2"}.get(tuple(others))
    return {kind} if kind and (sign >= 0 or kind == "g") else None


def _term_kind(expr: Expr, name: str) -> str:
    if isinstance(expr, Number):
        return "number"
    if expr in (Symbol(name), Lag(name, 1)):
        return "self"
    if expr == Symbol("g"):
        return "g"
    squared = isinstance(expr, Apply) and expr.args[0] == Symbol("g")
    square = squared and (expr.op == "square" or (expr.op == "pow" and expr.args[1] == Number(2)))  # type: ignore[union-attr]
    return "g^2" if square else ""


def _factors(expr: Expr, inverse: bool = False) -> Iterator[tuple[Expr | None, bool]]:
    """Factors of a product and whether they are below the line; ``None`` is a change of sign."""
    if isinstance(expr, Apply) and expr.op in ("mul", "div"):
        yield from _factors(expr.args[0], inverse)
        yield from _factors(expr.args[1], inverse != (expr.op == "div"))
    elif isinstance(expr, Apply) and expr.op == "neg":
        yield None, False
        yield from _factors(expr.args[0], inverse)
    else:
        yield expr, inverse


def _run(program: Program, gradient: Callable[[int], float]) -> dict[str, list[float]]:
    memory = initial_memory(program, torch.zeros(1, dtype=torch.float64))
    history: dict[str, list[float]] = {name: [] for name in program.state}
    for t in range(1, STEPS + 1):
        inputs = {
            "g": torch.full((1,), gradient(t), dtype=torch.float64),
            "w": torch.zeros(1, dtype=torch.float64),
            "t": torch.tensor(float(t), dtype=torch.float64),
        }
        memory = step(program, inputs, memory)[1]
        for name in program.state:
            history[name].append(float(memory[name]))
    return history


def _guessed(
    low: float, high: float, rise: tuple[float, float], before: tuple[float, float] | None, turn: int
) -> tuple[float, float]:
    """Bounds that keep moving: to where a geometric series ends, and, if that did not hold, to infinity."""
    if turn < 3 or before is None:
        return low, high
    ends = []
    for end, now, last in ((low, -rise[0], -before[0]), (high, rise[1], before[1])):
        ratio = now / last if last else math.inf
        if now and turn < ROUNDS // 2 and abs(ratio) < 1:
            end += now * ratio / (1 - ratio)
            end += 1e-9 * abs(end) * math.copysign(1, now)
        elif now:
            end = math.copysign(math.inf, now)
        ends.append(end)
    return ends[0], ends[1]


def _between(low: float, high: float) -> Value:
    return Value(np.full(len(TIMES), float(low)), np.full(len(TIMES), float(high)))


def _nonnegative() -> tuple[Array, Array]:
    return np.zeros(len(TIMES)), np.full(len(TIMES), math.inf)


def _points(values: Array) -> Value:
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return _between(-math.inf, math.inf)
    return Value(values, values)


def _hull(value: Value) -> Value:
    return _between(float(value.low.min()), float(value.high.max()))


def _shift(kernel: Array | None, steps: int) -> Array | None:
    if kernel is None:
        return None
    shifted = np.zeros_like(kernel)
    shifted[:, steps:] = kernel[:, :-steps]
    return shifted


def _times(x: Value, y: Value) -> Value:
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.stack([a * b for a in (x.low, x.high) for b in (y.low, y.high)])
    corners = np.nan_to_num(corners, nan=0.0, posinf=math.inf, neginf=-math.inf)  # 0 times any finite number
    made = Value(corners.min(axis=0), corners.max(axis=0))
    for number, other in ((x, y), (y, x)):
        if number.point:
            by, upward = number.low[:, None], bool((number.low >= 0).all())
            squared = {name: _scaled(getattr(other, name), by, upward) for name in ("quadratic", "peak")}
            root = _scaled(other.root, by**2, upward)
            linear = None if other.linear is None else other.linear * by
            return replace(made, linear=linear, root=root, **squared)
    return made


def _scaled(kernel: Array | None, by: Array, allowed: bool) -> Array | None:
    return kernel * by if kernel is not None and allowed else None


def _inverse(x: Value) -> Value:
    if bool(((x.low > 0) | (x.high < 0)).all()):
        return Value(1 / x.high, 1 / x.low)
    if bool((x.low >= 0).all()) and bool((x.high > 0).all()):
        return Value(np.where(np.isinf(x.high), 0.0, 1 / x.high), np.full(len(TIMES), math.inf))
    return _between(-math.inf, math.inf)


def _add(x: Value, y: Value) -> Value:
    with np.errstate(invalid="ignore"):
        low, high = x.low + y.low, x.high + y.high
    made = Value(np.nan_to_num(low, nan=-math.inf), np.nan_to_num(high, nan=math.inf))
    if x.linear is not None and y.linear is not None:
        made = replace(made, linear=x.linear + y.linear)
    for first, second in ((x, y), (y, x)):
        if bool((second.low >= 0).all()):
            forms = {name: getattr(first, name) for name in ("quadratic", "root", "peak")}
            made = replace(made, **{name: form for name, form in forms.items() if form is not None})
    if x.quadratic is not None and y.quadratic is not None:
        made = replace(made, quadratic=x.quadratic + y.quadratic)
    return made


def _negated(x: Value) -> Value:
    return Value(-x.high, -x.low, linear=None if x.linear is None else -x.linear)


def _monotone(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Value], Value]:
    def row(x: Value) -> Value:
        low, high = (function(torch.from_numpy(end)).numpy() for end in (x.low, x.high))
        return Value(np.nan_to_num(low, nan=-math.inf, posinf=math.inf, neginf=-math.inf),
                     np.nan_to_num(high, nan=math.inf, posinf=math.inf, neginf=-math.inf))  # fmt: skip

    return row


def _magnitude(x: Value) -> Value:
    inside = (x.low <= 0) & (x.high >= 0)
    sizes = np.abs(x.low), np.abs(x.high)
    made = Value(np.where(inside, 0.0, np.minimum(*sizes)), np.maximum(*sizes))
    if _present(x):
        made = replace(made, peak=np.abs(x.linear), root=x.linear**2)  # type: ignore[operator, arg-type]
    return made


def _present(x: Value) -> bool:
    """Whether it is a multiple of the present gradient."""
    return x.linear is not None and not x.linear[:, 1:].any()


def _square(x: Value) -> Value:
    size = _magnitude(x)
    with np.errstate(over="ignore"):
        made = Value(size.low**2, size.high**2)
    return replace(made, quadratic=x.linear**2) if _present(x) else made  # type: ignore[operator]


def _root(x: Value) -> Value:
    low = np.sqrt(np.maximum(x.low, 0))
    high = np.where(x.high < 0, math.inf, np.sqrt(np.maximum(x.high, 0)))
    return Value(low, high, root=x.quadratic)


def _root_of_size(x: Value) -> Value:
    return replace(_root(_magnitude(x)), root=x.quadratic if bool((x.low >= 0).all()) else None)


def _power(x: Value, y: Value) -> Value:
    exponent = float(y.low[0])
    if not y.point or not bool((y.low == exponent).all()):
        inside = bool((x.low >= 0).all() and (x.high <= 1).all() and (y.low >= 0).all())
        return _between(0, 1) if inside else _between(-math.inf, math.inf)
    if exponent == 2:
        return _square(x)
    if exponent < 0:
        return _inverse(_power(x, _points(-y.low)))
    if bool((x.low >= 0).all()):
        made = Value(x.low**exponent, x.high**exponent)
        return replace(made, root=x.quadratic) if exponent == 0.5 else made
    if exponent.is_integer():
        if exponent % 2:
            return Value(np.sign(x.low) * np.abs(x.low) ** exponent, np.sign(x.high) * np.abs(x.high) ** exponent)
        size = _magnitude(x)
        return Value(size.low**exponent, size.high**exponent)
    return _between(-math.inf, math.inf)


def _signed_power(x: Value, y: Value) -> Value:
    if not y.point or float(y.low.min()) <= 0:
        return _between(-math.inf, math.inf)
    return Value(*(np.sign(end) * np.abs(end) ** y.low for end in (x.low, x.high)))


def _least(x: Value, y: Value) -> Value:
    return Value(np.minimum(x.low, y.low), np.minimum(x.high, y.high))


def _most(x: Value, y: Value) -> Value:
    made = Value(np.maximum(x.low, y.low), np.maximum(x.high, y.high))
    for name in ("quadratic", "root", "peak"):
        form = getattr(x, name) if getattr(x, name) is not None else getattr(y, name)
        made = replace(made, **{name: form})
    return made


def _either(condition: Value, x: Value, y: Value) -> Value:
    if condition.point:
        chosen = condition.low != 0
        return Value(np.where(chosen, x.low, y.low), np.where(chosen, x.high, y.high))
    return Value(np.minimum(x.low, y.low), np.maximum(x.high, y.high))


def _greater(x: Value, y: Value) -> Value:
    surely, never = x.low > y.high, x.high <= y.low
    return Value(np.where(surely, 1.0, 0.0), np.where(never, 0.0, 1.0))


def _norm(x: Value) -> Value:
    return _between(0, 0) if x.zero else Value(*_nonnegative())


def _orthogonal(x: Value) -> Value:
    return _between(0, 0) if x.zero else _between(-SPECTRAL, SPECTRAL)


_INCREASING = ("sign", "cube", "exp", "log", "tanh", "sinh", "asinh", "erf", "relu")
_ROWS: dict[str, Callable[..., Value]] = {
    "add": _add,
    "sub": lambda x, y: _add(x, _negated(y)),
    "pow": _power,
    "spow": _signed_power,
    "abs": _magnitude,
    "square": _square,
    "sqrt": _root,
    "ssqrt": _root_of_size,
    "slog": lambda x: _monotone(OPERATORS["slog"].torch)(_magnitude(x)),
    "erfc": lambda x: _monotone(OPERATORS["erfc"].torch)(Value(x.high, x.low)),
    **{name: _monotone(OPERATORS[name].torch) for name in _INCREASING},
    "min": _least,
    "max": _most,
    "clip": lambda x, low, high: _least(_most(x, low), high),
    "greater": _greater,
    "where": _either,
    **dict.fromkeys(("mean", "row_mean", "col_mean"), lambda x: Value(x.low, x.high)),
    "rms": lambda x: replace(_magnitude(x), low=np.zeros(len(TIMES)), peak=None, root=None),
    "norm": _norm,
    "orthogonalise": _orthogonal,
}
