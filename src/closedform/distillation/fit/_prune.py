"""Smaller equations: parts that are not worth their nodes taken out, constants rounded."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from closedform.distillation._tidy import tidy
from closedform.distillation.fit._refine import refine
from closedform.distillation.problem import (
    DIGITS,
    Candidate,
    Problem,
    constant_name,
    floors,
    lift_constants,
    put_constants,
    with_decays,
)
from closedform.lang import Apply, Expr, Number, apply, complexity

USUAL_FLOOR = 1e-8
"""The usual eps of hand-designed optimizers."""
ROUNDING_LOSS = 1e-3
"""Share by which rounding may raise the training error."""


def prune(candidate: Candidate, data: Problem, tolerance: float, steps: int = 8) -> list[Candidate]:
    """Take out the least useful part again and again, fitting the rest anew each time.

    Args:
        candidate: A fitted candidate.
        data: The data.
        tolerance: Stop when 1 - R^2 on the training rows has grown by more than this.
        steps: Parts to take out, at most.

    Returns:
        The smaller candidates met on the way, each fitted.
    """
    found: list[Candidate] = []
    limit = data.error(candidate, data.train) + tolerance
    for _ in range(steps):
        smaller = [replace(candidate, expr=tidy(expr)) for expr in reductions(candidate.expr)]
        smaller = [option for option in smaller if complexity(option.expr) < complexity(candidate.expr)]
        if not smaller:
            break
        promising = sorted(smaller, key=functools.partial(data.error, part=data.train))[:2]
        candidate = min(
            (refine(option, data, evaluations=8) for option in promising),
            key=functools.partial(data.error, part=data.train),
        )
        if not data.error(candidate, data.train) <= limit:
            break
        found.append(candidate)
    return found


def reductions(expr: Expr) -> Iterator[Expr]:
    """The expression with one operator replaced by one of its arguments (negated, for the second of a difference)."""
    if not isinstance(expr, Apply):
        return
    for index, arg in enumerate(expr.args):
        if not isinstance(arg, Number):
            yield apply("neg", arg) if expr.op == "sub" and index == 1 else arg
        for smaller in reductions(arg):
            yield apply(expr.op, *expr.args[:index], smaller, *expr.args[index + 1 :])


def round_constants(candidate: Candidate, data: Problem) -> Candidate:
    """The candidate with as few significant digits as cost next to nothing on the training rows."""
    limit = data.error(candidate, data.train) * (1 + ROUNDING_LOSS) + data.exact
    usual = _with_usual_floors(candidate)
    if data.error(usual, data.train) <= limit:
        candidate = usual
    for digits in DIGITS:
        rounded = _rounded(candidate, digits)
        if data.error(rounded, data.train) <= limit:
            return rounded
    return candidate


def _with_usual_floors(candidate: Candidate) -> Candidate:
    """The candidate with the eps that everyone writes: what the data cannot tell from it is most likely it."""
    lifted, values = lift_constants(candidate.expr)
    known = {constant_name(k): value for k, value in enumerate(values)}
    return replace(
        candidate, expr=put_constants(lifted, known | {constant_name(k): USUAL_FLOOR for k in floors(lifted)})
    )


def _rounded(candidate: Candidate, digits: int) -> Candidate:
    averages = with_decays(
        candidate.averages,
        {name: round(1 - float(f"{1 - average.decay:.{digits}g}"), 12) for name, average in candidate.averages.items()},
    )
    recurrences = {name: _rounded_expr(expr, digits) for name, expr in candidate.recurrences.items()}
    return replace(candidate, expr=_rounded_expr(candidate.expr, digits), averages=averages, recurrences=recurrences)


def _rounded_expr(expr: Expr, digits: int) -> Expr:
    lifted, values = lift_constants(expr)
    return put_constants(lifted, {constant_name(k): float(f"{value:.{digits}g}") for k, value in enumerate(values)})
