"""Weighted sums of one or two of many columns: all of them are tried, in closed form."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from closedform.distillation.problem import Average, Candidate
from closedform.distillation.stages._dictionary import Term
from closedform.distillation.stages._screen import STAGE
from closedform.lang import Expr, Number, apply

STARTS = 3
"""Sums of each size that are handed on."""
Weighted: TypeAlias = tuple[tuple[int, ...], tuple[float, ...]]
"""Columns and their weights."""


def weighted_sum(terms: Sequence[Term], weights: Sequence[float]) -> Candidate:
    """A candidate of this stage: the terms times the weights, summed."""
    parts: list[Expr] = [apply("mul", Number(w), term.expr) for w, term in zip(weights, terms, strict=True)]
    averages: Mapping[str, Average] = {name: average for term in terms for name, average in term.averages.items()}
    return Candidate(functools.reduce(functools.partial(apply, "add"), parts), averages, stage=STAGE)


def best_singles(table: np.ndarray, y: np.ndarray) -> Iterator[Weighted]:
    """The columns of a table [N, K] that y [N] is best a multiple of."""
    sizes, moments = np.maximum(np.square(table).sum(axis=0), 1e-300), table.T @ y
    for k in np.argsort(-np.square(moments) / sizes)[:STARTS].tolist():
        yield (k,), (float(moments[k] / sizes[k]),)


def best_pairs(table: np.ndarray, y: np.ndarray) -> Iterator[Weighted]:
    """The pairs of columns that y is best a weighted sum of, first the best one with the first column.

    No two others share their first column: the next best pairs are mostly the best one's neighbours.
    """
    sizes = np.maximum(np.sqrt(np.square(table).sum(axis=0)), 1e-300)
    table = table / sizes
    gram, moments = table.T @ table, table.T @ y
    room = 1 - np.square(gram)
    left = (moments[:, None] - gram * moments) / np.maximum(room, 1e-9)  # of the pair (i, j), the weight of i
    gain = np.triu(left * moments[:, None] + left.T * moments, 1)
    gain[room < 1e-6] = 0
    ranked = np.stack(np.unravel_index(np.argsort(-gain, axis=None)[:50], gain.shape), axis=1).tolist()
    seen: set[int] = set()
    for i, j in [[0, int(gain[0].argmax())], *ranked]:
        if len(seen) <= STARTS and i not in seen and gain[i, j] > 0:
            seen.add(i)
            yield (i, j), (float(left[i, j] / sizes[i]), float(left[j, i] / sizes[j]))
