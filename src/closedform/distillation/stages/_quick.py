"""The quick stages: forms that linear algebra finds in well under a second. They are always asked first.

- **linear**: a weighted sum of columns;
- **recurrences**: short forms over moving averages of the gradient, decays fitted (see there);
- **designs**: whole optimizers, made of the parts that published ones are made of (see `distillation.designs`);
- **sparse**: the same with bounded columns and moving averages: the paper's psi(G; W), recurrences included;
- **saturating**: a tanh of such a sum, as RNNprop prints its updates;
- **additive**: a weighted sum of functions of single columns, as sparse identification has it (Brunton et al. 2016);
- **ratio**: a weighted sum of ratios to the root of a second moment, as in Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from closedform.distillation._config import DistillConfig
from closedform.distillation.designs import designed
from closedform.distillation.problem import Candidate, Problem, subset
from closedform.distillation.stages._dictionary import (
    Term,
    assemble,
    average_terms,
    bounded_terms,
    choose,
    column_terms,
    function_terms,
    matrix,
    product_terms,
    ratio_terms,
    with_expr,
)
from closedform.distillation.stages._recurrences import recurrences
from closedform.lang import Number, apply

TERM_ROWS = 20_000
"""Rows that the choice of terms looks at; constants are fitted on all rows afterwards."""
MAX_TERMS = 12
FUNCTION_COLUMNS = 24
"""Columns whose functions are summed."""
REACH = 0.999
"""Share of its bound up to which a tanh is inverted; beyond, rows say only that it is saturated."""


def linear(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Weighted sums of columns, with and without intercept."""
    yield from _sums(column_terms(data), data, config, "linear", most=max(MAX_TERMS, (config.max_complexity + 1) // 4))


def sparse(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Weighted sums of columns, bounded columns and moving averages."""
    yield from _sums(_rich_terms(data, config), data, config, "sparse")


def additive(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Weighted sums of functions of single columns and of lags."""
    terms = function_terms(data, config.operators, FUNCTION_COLUMNS)
    if data.symmetries.odd:
        terms += product_terms(data, column_terms(data))
    yield from _sums(terms, data, config, "additive")


def ratio(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Weighted sums of ratios, if some column can be a second moment."""
    ratios = ratio_terms(data)
    if ratios:
        yield from _sums(ratios + column_terms(data), data, config, "ratio", most=4)


def saturating(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """a*tanh(sum), with a the largest update seen; fitted to atanh(update/a), saturated rows counting less."""
    rows = subset(data.train, TERM_ROWS, config.seed)
    target = data.train.y[rows]
    bound = bound_of(data)
    share = target / bound
    wanted = torch.atanh(share.clamp(-REACH, REACH))
    weights = 1 - share.square() + 0.02
    terms, values = _finite(_rich_terms(data, config), data, rows)
    for choice in choose(values, wanted, weights, MAX_TERMS):
        inner = assemble(choice, terms, "saturating")
        yield with_expr(inner, apply("mul", Number(bound), apply("tanh", inner.expr)))


def bound_of(data: Problem) -> float:
    """A little more than the largest update seen: what a saturating update may be bounded by."""
    return float(data.train.y.abs().max()) * 1.0005


def _rich_terms(data: Problem, config: DistillConfig) -> list[Term]:
    terms = column_terms(data) + bounded_terms(data) + average_terms(data, config.decays)
    return terms + product_terms(data, terms) if data.symmetries.odd else terms


def _sums(
    terms: Sequence[Term], data: Problem, config: DistillConfig, stage: str, most: int = MAX_TERMS
) -> Iterator[Candidate]:
    rows = subset(data.train, TERM_ROWS, config.seed)
    target = data.train.y[rows]
    terms, values = _finite(terms, data, rows)
    for choice in choose(values, target, torch.ones_like(target), most):
        candidate = assemble(choice, terms, stage)
        yield candidate
        if abs(choice.intercept) < 1e-3 * data.scale:  # most rules have none
            yield assemble(type(choice)(choice.terms, choice.weights, 0.0), terms, stage)


def _finite(terms: Sequence[Term], data: Problem, rows: Tensor) -> tuple[list[Term], Tensor]:
    terms = [term for term in terms if data.symmetries.keep(Candidate(term.expr, term.averages)) is not None]
    values = matrix(terms, data.train, rows)
    finite = torch.isfinite(values).all(dim=0)
    return [term for term, good in zip(terms, finite.tolist(), strict=True) if good], values[:, finite]


FITTED = frozenset({"recurrences", "designs"})
"""Stages that fit what they propose."""
STAGES: dict[str, Callable[[Problem, DistillConfig], Iterator[Candidate]]] = {
    "linear": linear,
    "recurrences": recurrences,
    "designs": designed,
    "additive": additive,
    "ratio": ratio,
    "sparse": sparse,
    "saturating": saturating,
}
