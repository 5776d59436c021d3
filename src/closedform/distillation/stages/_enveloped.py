"""Directions under an envelope: what an optimizer does is one direction all along, and its size falls with progress.

    update = e(progress) * (c1*x1 + c2*x2 + ...)

Learned optimizers that know their horizon are so to a few per cent: of rp and rp-si fitted apart in twelve parts of an
episode, the weights of different terms fall together. So the envelope comes first, from a few short forms, each over a
grid of its constant; under it the direction is a linear choice of columns and averages. Constants of both are fitted
together afterwards, as of every candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.distillation._config import DistillConfig
from closedform.distillation.fit import refine
from closedform.distillation.problem import Candidate, Problem, subset
from closedform.distillation.stages._dictionary import (
    Choice,
    Term,
    assemble,
    average_terms,
    choose,
    column_terms,
    matrix,
    with_expr,
)
from closedform.lang import Expr, Number, Symbol, apply, evaluate, names

PROGRESS = "progress"
_STAGE = "enveloped"
_LOOK_ROWS, _ROWS = 4000, 20_000
"""Rows that envelopes are compared on, and that directions are chosen on."""
_SIZE, _LARGEST = 3, 6
"""Terms of the directions that envelopes are compared by, and of the largest ones."""
_STEPS = 6
"""Of the fit of what is handed on, in which envelopes and decays move."""
_KEPT = 3
"""Envelopes that are handed on."""


def _quadratic(k: float) -> Expr:
    p = Symbol(PROGRESS)
    return apply("add", Number(1), apply("mul", p, apply("add", Number(0.5), apply("mul", Number(-k), p))))


_P = Symbol(PROGRESS)
FORMS: dict[str, tuple[Callable[[float], Expr], tuple[float, ...]]] = {
    "line": (lambda k: apply("sub", Number(1), apply("mul", Number(k), _P)), (0.5, 0.7, 0.8, 0.9, 0.97)),
    "exponential": (lambda k: apply("exp", apply("mul", Number(-k), _P)), (0.7, 1.5, 2.5, 4.0, 8.0)),
    "bell": (lambda k: apply("exp", apply("mul", Number(-k), apply("square", _P))), (0.7, 1.2, 1.8, 2.5, 4.0)),
    "bow": (lambda k: apply("sub", Number(1), apply("mul", Number(k), apply("square", _P))), (0.5, 0.7, 0.85, 0.97)),
    "square": (lambda k: apply("square", apply("sub", Number(1), apply("mul", Number(k), _P))), (0.3, 0.5, 0.7, 0.9)),
    "quadratic": (_quadratic, (0.8, 1.1, 1.3)),
}
"""Form -> what it is with a constant, and the constants to try."""


@dataclass(frozen=True)
class _Rows:
    """The terms at some training rows, [N, K], and progress and updates there, [N]."""

    values: Tensor
    progress: Tensor
    target: Tensor

    @classmethod
    def of(cls, data: Problem, terms: list[Term], count: int, seed: int) -> _Rows:
        rows = subset(data.train, count, seed)
        return cls(matrix(terms, data.train, rows), data.train.columns[PROGRESS][rows], data.train.y[rows])

    def under(self, envelope: Expr, most: int) -> tuple[list[Choice], float]:
        """Directions under an envelope, of 1, 2, ... terms, and what the last one leaves."""
        values = self.values * evaluate(envelope, {PROGRESS: self.progress})[:, None]
        choices = choose(values, self.target, torch.ones_like(self.target), most)
        if not choices:
            return [], math.inf
        last = choices[-1]
        fitted = values[:, list(last.terms)] @ torch.tensor(last.weights, dtype=values.dtype) + last.intercept
        return choices, float((self.target - fitted).square().sum())


def enveloped(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Directions under an envelope, where progress is a column and averages may be kept."""
    known = [column.name for column in data.columns if column.lag == 0]
    if PROGRESS not in known or not (data.recurrent and config.decays):
        return
    terms = [term for term in column_terms(data) if PROGRESS not in names(term.expr)]
    terms += [term for term in average_terms(data, config.decays) if _plain(term)]
    terms = [term for term in terms if data.symmetries.keep(Candidate(term.expr, term.averages)) is not None]
    if not terms:
        return
    few, many = (_Rows.of(data, terms, count, config.seed) for count in (_LOOK_ROWS, _ROWS))
    best = []
    for make, constants in FORMS.values():
        tried = [(few.under(make(k), _SIZE)[1], k) for k in constants]
        left, k = min(tried)
        best.append((left, make(k)))
    best.sort(key=lambda one: one[0])
    for _, envelope in best[:_KEPT]:
        for choice in many.under(envelope, _LARGEST)[0][1:]:
            direction = assemble(Choice(choice.terms, choice.weights, 0.0), terms, _STAGE)
            plain = refine(with_expr(direction, apply("mul", envelope, direction.expr)), data, _STEPS, _LOOK_ROWS)
            yield plain
            yield with_expr(direction, _saturating(envelope, direction.expr, data))


def _plain(term: Term) -> bool:
    return all(average.transform is None and average.signal != PROGRESS for average in term.averages.values())


def _saturating(envelope: Expr, direction: Expr, data: Problem) -> Expr:
    """The same inside a tanh, as RNNprop bounds its updates."""
    bound = 1.0005 * float(data.train.y.abs().max())
    inner = apply("mul", envelope, apply("mul", Number(1 / bound), direction))
    return apply("mul", Number(bound), apply("tanh", inner))
