"""Programs run over whole recorded episodes at once: array by array, and step by step only where the past demands it.

A recurrence that is a multiple of its own past plus something known is a linear filter; a largest value so far, a
running maximum. What is left, states that read each other's past, runs step by step. Equal sub-expressions, of this
program or of one before, are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from closedform.lang import OPERATORS, Apply, Expr, Lag, Number, Program, Symbol, apply, horizon_inputs, lags, names

_KEPT = 800
"""Arrays kept at hand."""
_TOGETHER = 256
"""Sequences that are run at once."""
_Row: TypeAlias = Callable[[int], Tensor]
_ONE, _ZERO = Number(1), Number(0)


class Episodes:
    """Gradients and parameters over steps, and what programs make of them.

    Args:
        gradients, weights: [T, N], from step 1 on.
        total: Steps of an episode, for programs that read it.
    """

    def __init__(self, gradients: Tensor, weights: Tensor, total: int) -> None:
        self.shape = tuple(gradients.shape)
        t = torch.arange(1, len(gradients) + 1, dtype=torch.float64)[:, None]
        inputs = {"g": gradients, "w": weights, "t": t, **horizon_inputs(t, total)}
        self.inputs = {name: value.to(torch.float64) for name, value in inputs.items()}
        self._kept: dict[object, Tensor] = {}
        self._plan = _Plan(Program())

    def run(self, program: Program, constants: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """The outputs of an elementwise program, [T, N], with other constants than its own if they are given."""
        if len(self._kept) > _KEPT:
            self._kept.clear()
        with torch.no_grad():
            if self._plan.program is not program:
                self._plan = _Plan(program)
            run = _Run(self._plan, {**program.constants, **(constants or {})}, self)
            return {name: run.value(expr).expand(self.shape) for name, expr in program.outputs.items()}

    def kept(self, key: object) -> Tensor | None:
        """An array computed before."""
        return self._kept.get(key)

    def keep(self, key: object, value: Tensor) -> Tensor:
        """Keep an array for later."""
        self._kept[key] = value
        return value


def run_over(program: Program, gradients: Tensor, weights: Tensor) -> Tensor:
    """A program's update over sequences, [T, N], some of them at a time."""
    blocks = zip(gradients.split(_TOGETHER, dim=1), weights.split(_TOGETHER, dim=1), strict=True)
    return torch.cat([Episodes(g, w, len(g)).run(program)["update"] for g, w in blocks], dim=1)


class _Plan:
    """What each name of a program is: a value, a filter, a largest value so far, or part of a knot."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.definitions: dict[str, Expr] = {
            **{name: _past(expr, program.state) for name, expr in program.state.items()},
            **program.where,
        }
        read = {name: {*names(expr), *lags(expr)} & self.definitions.keys() for name, expr in self.definitions.items()}
        below = {name: _reached(name, read) for name in read}
        self.knots = {
            name: [other for other in read if other == name or (name in below[other] and other in below[name])]
            for name in read
        }
        self.recurrent = {name: lags(expr).get(name, 0) for name, expr in self.definitions.items()}
        self.linear = {name: _linear(expr, name) for name, expr in self.definitions.items() if self.recurrent[name]}
        self.largest = {name: _largest(expr, name) for name, expr in self.definitions.items() if self.recurrent[name]}


def _reached(name: str, read: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [name]
    while ahead:
        new = read[ahead.pop()] - found
        found |= new
        ahead += new
    return found


class _Run:
    """One program with its constants: every name's array, and a key that tells equal ones."""

    def __init__(self, plan: _Plan, constants: Mapping[str, float], episodes: Episodes) -> None:
        self.episodes, self.program, self.plan = episodes, plan.program, plan
        self.numbers = {name: Number(value) for name, value in constants.items()}
        self.definitions = plan.definitions
        self.keys: dict[str, object] = {}

    def value(self, expr: Expr) -> Tensor:
        return self.at(self.key(expr))

    def key(self, expr: Expr) -> object:
        """What an expression is, names resolved."""
        if isinstance(expr, Number):
            return expr.value
        if isinstance(expr, Lag):
            begun = self.program.init.get(expr.name, _ZERO)
            return ("lag", expr.steps, self.key(Symbol(expr.name)), self.key(begun))
        if isinstance(expr, Apply):
            return (expr.op, *(self.key(arg) for arg in expr.args))
        if expr.name in self.numbers:
            return self.numbers[expr.name].value
        if expr.name not in self.definitions:
            return expr.name
        if expr.name not in self.keys:
            self.define(expr.name)
        return self.keys[expr.name]

    def at(self, key: object) -> Tensor:
        """The array of a key: computed, or kept from before."""
        found = self.episodes.kept(key)
        return self.episodes.keep(key, self.computed(key)) if found is None else found

    def computed(self, key: object) -> Tensor:
        if isinstance(key, str):
            return self.episodes.inputs[key]
        if isinstance(key, float):
            return torch.tensor(key, dtype=torch.float64)
        assert isinstance(key, tuple)
        if key[0] == "lag":
            return self.shifted(self.at(key[2]).expand(self.episodes.shape), key[1], self.at(key[3]))
        if key[0] == "filter":
            return self.filtered(*key[1:])
        if key[0] == "top":
            values = self.at(key[1]).expand(self.episodes.shape)
            return torch.cummax(values, dim=0).values.clamp_min(0)
        return OPERATORS[key[0]].torch(*(self.at(arg) for arg in key[1:]))

    def shifted(self, values: Tensor, steps: int, begun: Tensor) -> Tensor:
        """Values some steps ago: 0 before the start, and at it what a state began with."""
        found = torch.zeros_like(values)
        found[steps:] = values[:-steps]
        if steps <= len(found):
            found[steps - 1] = begun.expand(self.episodes.shape)[0]
        return found

    def filtered(self, steps: int, share: object, new: object, start: object) -> Tensor:
        """S = share * s, some steps ago, + new."""
        b = self.at(new).expand(self.episodes.shape)
        first = self.at(start)
        if isinstance(share, float) and first.dim() == 0 and not float(first):
            return torch.from_numpy(lfilter([1.0], [1.0, *[0.0] * (steps - 1), -share], b.numpy(), axis=0))
        a = self.at(share).expand(self.episodes.shape).numpy()
        values, found = b.numpy(), np.empty(self.episodes.shape)
        begin = first.expand(self.episodes.shape)[0].numpy()
        for t in range(len(found)):
            found[t] = a[t] * (found[t - steps] if t >= steps else begin) + values[t]
        return torch.from_numpy(found)

    def define(self, name: str) -> None:
        """Find what a state or named value is."""
        plan, begun = self.plan, self.program.init.get(name, _ZERO)
        together, steps = plan.knots[name], plan.recurrent[name]
        if len(together) > 1:
            self.step_by_step(together)
        elif not steps:
            self.keys[name] = self.key(self.definitions[name])
        elif (parts := plan.linear[name]) is not None:
            self.keys[name] = ("filter", steps, *(self.key(part) for part in parts), self.key(begun))
        elif (new := plan.largest[name]) is not None and begun == _ZERO:
            self.keys[name] = ("top", self.key(new))
        else:
            self.step_by_step(together)

    def step_by_step(self, together: list[str]) -> None:
        """States that read each other's past."""
        exprs = {name: self.definitions[name] for name in together}
        parts = [
            (name, self.outer(expr, together), self.key(self.program.init.get(name, _ZERO)))
            for name, expr in exprs.items()
        ]
        own = {name: ("knot", name, *parts) for name in together}
        if any(self.episodes.kept(own[name]) is None for name in together):
            found = self.stepped(exprs)
            for name in together:
                self.episodes.keep(own[name], found[name])
        self.keys |= own

    def outer(self, expr: Expr, together: list[str]) -> object:
        """A key of an expression in which the names of a knot stand for themselves."""
        if isinstance(expr, Lag) and expr.name in together:
            return ("own lag", expr.name, expr.steps)
        if isinstance(expr, Symbol) and expr.name in together:
            return ("own", expr.name)
        if isinstance(expr, Apply):
            return (expr.op, *(self.outer(arg, together) for arg in expr.args))
        return self.key(expr)

    def stepped(self, exprs: Mapping[str, Expr]) -> dict[str, Tensor]:
        begin = {name: self.value(self.program.init.get(name, _ZERO)).expand(self.episodes.shape)[0] for name in exprs}
        found: dict[str, list[Tensor]] = {name: [] for name in exprs}
        ready = {name: self.ready(expr, found, begin) for name, expr in exprs.items()}
        for t in range(self.episodes.shape[0]):
            for name, now in ready.items():
                found[name].append(now(t).expand(self.episodes.shape[1]))
        return {name: torch.stack(rows) for name, rows in found.items()}

    def ready(self, expr: Expr, found: Mapping[str, list[Tensor]], begin: Mapping[str, Tensor]) -> _Row:
        """An expression as a function of the step."""
        if isinstance(expr, Lag) and expr.name in found:
            rows, first, steps = found[expr.name], begin[expr.name], expr.steps
            return lambda t: rows[t - steps] if t >= steps else first
        if isinstance(expr, Symbol) and expr.name in found:
            rows = found[expr.name]
            return lambda t: rows[t]
        if isinstance(expr, Apply) and found.keys() & {*names(expr), *lags(expr)}:
            return _applied(OPERATORS[expr.op].torch, [self.ready(arg, found, begin) for arg in expr.args])
        value = self.value(expr)
        if value.dim() < 2:
            return lambda t: value
        each = value.unbind(0)
        return lambda t: each[t]


def _applied(function: Callable[..., Tensor], args: list[_Row]) -> _Row:
    if len(args) == 1:
        (only,) = args
        return lambda t: function(only(t))
    if len(args) == 2:
        left, right = args
        return lambda t: function(left(t), right(t))
    return lambda t: function(*[arg(t) for arg in args])


def _past(expr: Expr, states: Mapping[str, Expr]) -> Expr:
    """A state's recurrence, in which states are their values one step ago."""
    if isinstance(expr, Apply):
        return Apply(expr.op, tuple(_past(arg, states) for arg in expr.args))
    return Lag(expr.name, 1) if isinstance(expr, Symbol) and expr.name in states else expr


def _linear(expr: Expr, name: str) -> tuple[Expr, Expr] | None:
    """A and b of a * lag(name, k) + b, neither of which reads the name; None if there are no such."""
    if isinstance(expr, Lag) and expr.name == name:
        return _ONE, _ZERO
    if name not in lags(expr):
        return _ZERO, expr
    if not isinstance(expr, Apply):
        return None
    parts = [_linear(arg, name) for arg in expr.args]
    if any(part is None for part in parts):
        return None
    (a, b), *rest = (part for part in parts if part is not None)
    if expr.op == "neg":
        return _times(Number(-1), a), _times(Number(-1), b)
    if expr.op in ("add", "sub"):
        c, d = rest[0]
        return _sum(expr.op, a, c), _sum(expr.op, b, d)
    if expr.op == "mul" and _ZERO in (a, rest[0][0]):
        c, d = rest[0]
        return (_times(b, c), _times(b, d)) if a == _ZERO else (_times(d, a), _times(d, b))
    if expr.op == "div" and rest[0][0] == _ZERO:
        return (_ZERO if a == _ZERO else apply("div", a, rest[0][1])), apply("div", b, rest[0][1])
    return None


def _largest(expr: Expr, name: str) -> Expr | None:
    """X of max(prev(name), x)."""
    if isinstance(expr, Apply) and expr.op == "max" and Lag(name, 1) in expr.args:
        (other,) = (arg for arg in expr.args if arg != Lag(name, 1)) if expr.args[0] != expr.args[1] else (_ZERO,)
        return None if name in lags(other) else other
    return None


def _times(a: Expr, b: Expr) -> Expr:
    if _ZERO in (a, b):
        return _ZERO
    if isinstance(a, Number) and isinstance(b, Number):
        return Number(a.value * b.value)
    return b if a == _ONE else a if b == _ONE else apply("mul", a, b)


def _sum(op: str, a: Expr, b: Expr) -> Expr:
    if b == _ZERO:
        return a
    if a == _ZERO:
        return b if op == "add" else apply("neg", b)
    return apply(op, a, b)
