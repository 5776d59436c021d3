"""Terms that an equation can be summed from, and the choice of the few that fit best.

The dictionary holds the columns, bounded and odd functions of them (the tanh of the paper's family psi(G; W)), moving
averages over a grid of decays, and ratios to the root of columns that are never negative, as an optimizer's second
moment is. Choosing is orthogonal matching pursuit with exchanges, on the Gram matrix. NumPy does it: its products do
not depend on where an array lies in memory as torch's may, and the same seed must give the same hall.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from closedform.distillation.problem import Average, Candidate, Part, Problem, at_rows
from closedform.lang import Expr, Lag, Number, Parity, Symbol, apply, parity

WIDTHS = (0.5, 1.5)
"""Widths gamma of gamma*tanh(x/gamma), in standard deviations of x."""
FUNCTIONS = ("square", "cube", "abs", "exp", "tanh", "ssqrt")
"""Functions that sums of functions are made of."""
FUNCTION_LAGS = 10
"""Steps that they look back beyond the recorded columns."""
FLOORS = (1e-8, 1e-3)
"""Floors eps of x/(sqrt(v) + eps): Adam's, and one in units of the root mean of v."""
MAX_RATIOS = 1000
"""Ratios that are looked at, of the first columns: a table may have many that are never negative."""
MAX_EVEN = 4
"""Even columns that odd terms are multiplied with."""
AVERAGED_TERMS = (None, "cube", "abs")
"""What moving averages are taken of: the signal itself, its cube (rare large values), its size."""


@dataclass(frozen=True)
class Term:
    """One term: an expression over the columns and at most a few averages."""

    expr: Expr
    averages: dict[str, Average] = field(default_factory=dict)


def column_terms(data: Problem) -> list[Term]:
    """Every column as it is."""
    return [Term(column.expr) for column in data.columns]


def bounded_terms(data: Problem) -> list[Term]:
    """gamma*tanh(x/gamma) for every column x."""
    terms = []
    for column in data.columns:
        spread = float(data.train.columns[column.name].std())
        for width in WIDTHS:
            scaled = apply("mul", Number(1 / (width * spread)), column.expr)
            terms.append(Term(apply("tanh", scaled)))
    return terms


def function_terms(data: Problem, operators: Sequence[str], most: int) -> list[Term]:
    """Functions of one argument, those in ``FUNCTIONS`` that may be used, of the columns, at most so many of these.

    Where the episodes are there, the signals' lags up to ``FUNCTION_LAGS`` count as columns.
    """
    exprs: list[Expr] = [column.expr for column in data.columns]
    if data.recurrent:
        exprs += [
            Lag(column.feature, k)
            for k in range(1, FUNCTION_LAGS + 1)
            for column in data.columns
            if column.lag == 0 and column.feature in data.samples.source.outputs
        ]
    chosen = [name for name in FUNCTIONS if name in operators]
    return [
        term for expr in dict.fromkeys(exprs[:most]) for term in (Term(expr), *(Term(apply(f, expr)) for f in chosen))
    ]


def average_terms(data: Problem, decays: Sequence[float]) -> list[Term]:
    """Moving averages of every signal now, of its cube and of its size."""
    if not data.recurrent:
        return []
    signals = [column.feature for column in data.averaged]
    averages = [Average(name, decay, kind) for name in signals for kind in AVERAGED_TERMS for decay in decays]
    return [Term(Symbol(average.label), {average.label: average}) for average in averages]


def ratio_terms(data: Problem) -> list[Term]:
    """x/(sqrt(v) + eps) for every column x and every column v that is never negative."""
    ratios = (Term(expr) for column in data.columns for expr in _ratios(column.expr, column.name, data))
    return list(itertools.islice(ratios, MAX_RATIOS))


def _ratios(expr: Expr, name: str, data: Problem) -> Iterator[Expr]:
    for other in data.columns:
        values = data.train.columns[other.name]
        if other.name == name or float(values.min()) < 0:
            continue
        for floor in FLOORS:
            eps = floor if floor == FLOORS[0] else floor * float(values.mean().sqrt())
            yield apply("div", expr, apply("add", apply("sqrt", other.expr), Number(eps)))


def product_terms(data: Problem, terms: Sequence[Term]) -> list[Term]:
    """Odd terms times even columns: how what does not turn with the gradient can matter to an odd update."""
    forms = data.symmetries.forms
    known = [forms.known(Candidate(term.expr, term.averages)) for term in terms]
    odd = [term for term, names in zip(terms, known, strict=True) if parity(term.expr, names) is Parity.ODD]
    even = [column.expr for column in data.columns if parity(column.expr, forms.signals) is Parity.EVEN]
    products = (Term(apply("mul", term.expr, factor), term.averages) for factor in even[:MAX_EVEN] for term in odd)
    return list(itertools.islice(products, MAX_RATIOS))


def matrix(terms: Sequence[Term], part: Part, rows: Tensor) -> Tensor:
    """The terms' values at some rows of a part, [rows, terms]."""
    columns = []
    for term in terms:
        values = at_rows(term.expr, part.values(Candidate(term.expr, term.averages)), len(part.y))
        columns.append(values[rows])
    return torch.stack(columns, dim=1)


@dataclass(frozen=True)
class Choice:
    """Chosen terms of a linear fit: their indices, weights, and the intercept."""

    terms: tuple[int, ...]
    weights: tuple[float, ...]
    intercept: float


def choose(values: Tensor, target: Tensor, row_weights: Tensor, most: int) -> list[Choice]:
    """The best few terms for a weighted linear fit, for every number of terms up to ``most``.

    Args:
        values: [N, K], the terms' values, finite.
        target: [N].
        row_weights: [N], weights of the residuals.
        most: Terms, at most.

    Returns:
        For 1, 2, ... terms the choice, as long as another one helps.
    """
    weights = row_weights.numpy()[:, None]
    design = np.column_stack([np.ones(len(target)), values.numpy()]) * weights
    with np.errstate(over="ignore"):  # a column too large to square counts for nothing
        sizes = np.maximum(np.sqrt(np.square(design).sum(axis=0)), 1e-300)
    design = np.ascontiguousarray(design / sizes)
    wanted = target.numpy() * row_weights.numpy()
    gram, moments = design.T @ design, design.T @ wanted
    chosen: list[int] = []
    choices: list[Choice] = []
    for _ in range(min(most, values.shape[1])):
        best = _best_addition(gram, moments, [0, *chosen])
        if best is None:
            break
        chosen = _exchange(gram, moments, [*chosen, best])
        used = [0, *chosen]
        solution = np.linalg.lstsq(design[:, used], wanted, rcond=None)[0] / sizes[used]
        choices.append(Choice(tuple(k - 1 for k in chosen), tuple(solution[1:].tolist()), float(solution[0])))
    return choices


def _best_addition(gram: np.ndarray, moments: np.ndarray, used: list[int]) -> int | None:
    """The column whose addition lowers the sum of squares most; None if all depend on those used."""
    inverse = np.linalg.pinv(gram[np.ix_(used, used)], hermitian=True)
    across = gram[:, used]
    left = moments - across @ (inverse @ moments[used])
    room = gram.diagonal() - ((across @ inverse) * across).sum(axis=1)
    gain = np.where(room > 1e-9, np.square(left) / np.maximum(room, 1e-12), 0.0)
    gain[used] = 0
    best = int(gain.argmax())
    return best if gain[best] > 0 else None


def _exchange(gram: np.ndarray, moments: np.ndarray, chosen: list[int]) -> list[int]:
    """Replace each chosen column by the best one given the others, twice."""
    if len(chosen) < 2:
        return chosen
    for _ in range(2):
        for place in range(len(chosen)):
            others = [column for index, column in enumerate(chosen) if index != place]
            best = _best_addition(gram, moments, [0, *others])
            if best is not None:
                chosen = [*chosen[:place], best, *chosen[place + 1 :]]
    return chosen


def assemble(choice: Choice, terms: Sequence[Term], stage: str) -> Candidate:
    """The chosen weighted sum as a candidate."""
    weighted = [
        apply("mul", Number(weight), terms[k].expr) for k, weight in zip(choice.terms, choice.weights, strict=True)
    ]
    total = functools.reduce(functools.partial(apply, "add"), weighted)
    if choice.intercept:
        total = apply("add", total, Number(choice.intercept))
    averages = {name: average for k in choice.terms for name, average in terms[k].averages.items()}
    return Candidate(total, averages, stage=stage)


def with_expr(candidate: Candidate, expr: Expr) -> Candidate:
    """The candidate with another expression."""
    return replace(candidate, expr=expr)
