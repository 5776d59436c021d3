"""A bound on a rule's update, proved: intervals settled over its recurrences, see `_intervals`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from closedform.analysis._intervals import (
    ROWS,
    TIMES,
    UNKNOWN,
    Form,
    Kind,
    Value,
    averaged,
    before,
    between,
    gradient,
    hull,
    inverse,
    negated,
    peaked,
    points,
    ratio,
    times,
)
from closedform.lang import (
    OPERATORS,
    Apply,
    Expr,
    Lag,
    Number,
    Program,
    Symbol,
    apply,
    folded,
    shape_values,
    walk,
)
from closedform.lang import SHAPE_INPUTS as SHAPES

EXACT_ROUNDS, ROUNDS = 4, 12
"""Rounds after which an end that still moves is given up as infinite, and after which all is."""


def bound(program: Program, shape: tuple[int, ...], total: int, w: float) -> float:
    """The largest |update| over all gradients and steps; infinite where none is proved.

    Args:
        program: A rule's program.
        shape: Of the parameter tensor.
        total: T.
        w: The largest absolute parameter.
    """
    return _Bounds(folded(program), shape, total, w).update().size


class _Bounds:
    def __init__(self, program: Program, shape: tuple[int, ...], total: int, w: float) -> None:
        self.program = program
        shapes = dict(zip(SHAPES, shape_values(shape), strict=True))
        self.numel = shapes["numel"]
        self.known = {"g": gradient(), "w": between(-w, w), "t": points(TIMES), "progress": between(0, 1)}
        self.known |= {"T": points(total), **{name: points(value) for name, value in shapes.items()}}
        self.starts = {name: between(0, 0) for name in (*program.state, *program.where)}
        self.starts |= {name: hull(self.value(expr)) for name, expr in program.init.items()}
        self.known |= self.starts

    def update(self) -> Value:
        """Bounds of the update, when those of states hold from step to step."""
        for turn in range(ROUNDS):
            old = dict(self.known)
            for name in (*self.program.state, *self.program.where):
                found = self.definition(name)
                joined = hull(old[name], found) if name in self.program.state or self.recurs(name) else found
                if turn >= EXACT_ROUNDS:
                    joined = _widened(old[name], joined)
                self.known[name] = Value(joined.low, joined.high, found.linear, found.least)
            if all(self.known[name].same(old[name]) for name in self.starts):
                return self.value(self.program.outputs["update"])
        return UNKNOWN

    def recurs(self, name: str) -> bool:
        """Whether a named value reads its own past."""
        return any(isinstance(node, Lag) and node.name == name for node in walk(self.program.where[name]))

    def definition(self, name: str) -> Value:
        state = name in self.program.state
        expr = self.program.state[name] if state else self.program.where[name]
        own: Expr = Symbol(name) if state else Lag(name, 1)
        if state:  # a state's own past may be written either way
            expr = _replaced(expr, Lag(name, 1), own)
        parts = _weight(expr, own)
        if parts is not None and 0 < parts[0] <= 1:
            return averaged(parts[0], self.value(parts[1], state), self.starts[name])
        if isinstance(expr, Apply) and expr.op == "max":
            for kept, new in (expr.args, expr.args[::-1]):
                parts = _weight(kept, own)
                alone = parts is not None and parts[1] == Number(0)
                if parts is not None and alone and 0 < parts[0] <= 1 and not _reads(new, own):
                    return peaked(parts[0], self.value(new, state), self.starts[name])
        return self.value(expr, state)

    def value(self, expr: Expr, state: bool = False) -> Value:
        """Bounds of an expression; in a state's, the names of states are their old values."""
        if isinstance(expr, Number):
            return points(expr.value)
        if isinstance(expr, Symbol):
            known = self.known[expr.name]
            return self.past(expr.name, 1) if state and expr.name in self.program.state else known
        if isinstance(expr, Lag):
            return self.past(expr.name, expr.steps)
        if expr.op in ("mul", "div", "neg"):
            return self.product(expr, state)
        args = [self.value(arg, state) for arg in expr.args]
        if expr.op in ("rms", "norm"):
            return self.norm(expr, args[0])
        if all(arg.point for arg in args) and not OPERATORS[expr.op].reduces:
            tensors = [torch.from_numpy(arg.low.copy()) for arg in args]
            return points(OPERATORS[expr.op].torch(*tensors).numpy())
        with np.errstate(invalid="ignore", over="ignore"):
            return ROWS[expr.op](*args)

    def past(self, name: str, steps: int) -> Value:
        value = self.known[name]
        for _ in range(steps):
            value = before(value)
        return value if name not in self.program.init else hull(value, self.starts[name])

    def norm(self, expr: Apply, x: Value) -> Value:
        size = x.size * (math.sqrt(self.numel) if expr.op == "norm" else 1.0)
        made = between(0, size)
        return Value(made.low, made.high, None, {Form(Kind(expr.op), expr.args[0]): np.ones(len(TIMES))})

    def product(self, expr: Apply, state: bool) -> Value:
        """A product; a factor above and one below that bounds it are taken together."""
        result = points(1.0)
        above: list[tuple[Expr, Value]] = []
        below: list[tuple[Expr, Value]] = []
        for factor, inverted in _factors(expr):
            if factor is None:
                result = negated(result)
            else:
                (below if inverted else above).append((factor, self.value(factor, state)))
        for written, factor_value in above:
            bounds = [ratio(factor_value, written, other, self.numel) for _, other in below]
            best = min(range(len(bounds)), key=lambda k: float(bounds[k].max()), default=None)
            if best is not None and np.isfinite(bounds[best]).all() and not factor_value.point:
                below.pop(best)
                factor_value = Value(-bounds[best], bounds[best])
            result = times(result, factor_value)
        for _, factor_value in below:
            result = times(result, inverse(factor_value))
        return result


def _widened(old: Value, new: Value) -> Value:
    low = -math.inf if float(new.low.min()) < float(old.low.min()) else float(new.low.min())
    high = math.inf if float(new.high.max()) > float(old.high.max()) else float(new.high.max())
    return between(low, high)


def _replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    if expr == old:
        return new
    return apply(expr.op, *(_replaced(arg, old, new) for arg in expr.args)) if isinstance(expr, Apply) else expr


def _reads(expr: Expr, node: Expr) -> bool:
    return any(other == node for other in walk(expr))


def _weight(expr: Expr, own: Expr) -> tuple[float, Expr] | None:
    """(a, rest) of ``a*own + rest``, or None."""
    if expr == own:
        return 1.0, Number(0)
    if not _reads(expr, own):
        return 0.0, expr
    if not isinstance(expr, Apply) or expr.op not in ("add", "sub", "mul", "neg"):
        return None
    parts = [_weight(arg, own) for arg in expr.args]
    if any(part is None for part in parts):
        return None
    weights, rests = zip(*(part for part in parts if part is not None), strict=True)
    if expr.op == "mul":
        for k, factor in enumerate(expr.args):
            if isinstance(factor, Number):
                return factor.value * weights[1 - k], _scaled(factor, rests[1 - k])
        return None
    if expr.op == "neg":
        return -weights[0], apply("neg", rests[0])
    weight = weights[0] + (weights[1] if expr.op == "add" else -weights[1])
    if Number(0) in rests and expr.op == "add":
        return weight, rests[1] if rests[0] == Number(0) else rests[0]
    return weight, rests[0] if rests[1] == Number(0) else apply(expr.op, *rests)


def _scaled(factor: Number, rest: Expr) -> Expr:
    return rest if rest == Number(0) else apply("mul", factor, rest)


def _factors(expr: Expr, inverted: bool = False) -> Iterator[tuple[Expr | None, bool]]:
    """Factors of a product and whether they are below the line; ``None`` is a change of sign."""
    if isinstance(expr, Apply) and expr.op in ("mul", "div"):
        yield from _factors(expr.args[0], inverted)
        yield from _factors(expr.args[1], inverted != (expr.op == "div"))
    elif isinstance(expr, Apply) and expr.op == "neg":
        yield None, False
        yield from _factors(expr.args[0], inverted)
    else:
        yield expr, inverted
