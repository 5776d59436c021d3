"""The stage that searches for what an optimizer is: recurrences with unknown decays, and a short form over them.

Four searches, cheapest first, each over whole sequences of gradients (`Screen`) and none told what made them:

- **memory**: one or two moving averages, with or without the gradient: momentum, Nesterov's;
- **lags**: weighted sums of past gradients;
- **signs**: where the update only ever has one size: Lion, signed momentum;
- **adaptive**: an average over the root of another: Adam, RMSProp, AdaBelief and their kin.

Where the parameter was recorded too, the best forms are also tried with a multiple of it added; over windows, times a
linear function of one other column. What they find is
fitted to the training rows, decays included. The first that explains the update entirely ends the stage.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch

from closedform.distillation._config import DistillConfig
from closedform.distillation._front import EXACT
from closedform.distillation.fit import refine
from closedform.distillation.problem import SIGNAL, Candidate, Problem
from closedform.distillation.stages._adaptive import Adaptive
from closedform.distillation.stages._dictionary import Term, assemble, choose, with_expr
from closedform.distillation.stages._screen import EVEN, STAGE, Screen, gradient_averages, lagged_signal
from closedform.distillation.stages._signs import signs
from closedform.distillation.stages._sums import best_pairs, best_singles, weighted_sum
from closedform.lang import Number, Symbol, apply

PARAMETER = "w"
LAGS = 20
"""Steps that weighted sums of past gradients look back (the paper's windows)."""
LAG_TERMS = 12
AVERAGED = (None, "sign", "cube", "abs", "square")
"""What averages are taken of."""
CLOSE, FULL_FITS = 1e-5, 2
"""1 - R^2 on the screen from which a form is fitted to all rows at once, and how many forms of a search are."""
SCREEN_STEPS, SCREEN_ROWS = 10, 4000
"""Steps of the fit to the screen, and its cells that the fit looks at."""


def recurrences(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Short forms over moving averages of the gradient; nothing if it was not recorded or averages are not wanted."""
    if not (data.recurrent and config.decays and SIGNAL in data.train.signals):
        return
    screen = Screen(data)
    if screen.silent:
        return
    adaptive = Adaptive(screen)
    for starts in (
        *(memory(screen), lag_sums(screen), signs(data, screen)),
        *(adaptive.ratios(), adaptive.inside(), adaptive.mixed()),
    ):
        fitted = [refine(start, screen.data, SCREEN_STEPS, SCREEN_ROWS) for start in starts]
        yield from fitted
        for candidate in _worth_more(fitted, data, screen):
            candidate = refine(candidate, data)
            yield candidate
            if data.error(candidate, data.train) <= EXACT:
                return


def _worth_more(fitted: list[Candidate], data: Problem, screen: Screen) -> Iterator[Candidate]:
    """The forms of a search to fit to all rows at once."""
    error = functools.partial(screen.data.error, part=screen.data.train)
    for candidate in sorted(fitted, key=error)[:FULL_FITS]:
        if error(candidate) <= CLOSE:
            yield candidate
        if PARAMETER in data.train.columns:
            yield with_decay(candidate, data)
        if data.windowed:
            yield from with_factor(candidate, data)


def with_decay(candidate: Candidate, data: Problem) -> Candidate:
    """The candidate and a multiple of the parameter: weight decay."""
    left, w = data.train.y - data.predict(candidate, data.train), data.train.columns[PARAMETER]
    share = float(left @ w / (w @ w).clamp_min(1e-300))
    return with_expr(candidate, apply("add", candidate.expr, apply("mul", Number(share), Symbol(PARAMETER))))


def with_factor(candidate: Candidate, data: Problem) -> Iterator[Candidate]:
    """The candidate times a linear function of the column outside the window that explains most so, as of a layer."""
    y, predicted = data.train.y, data.predict(candidate, data.train)
    best, factor = float("inf"), None
    for column in (column for column in data.present if column not in data.averaged):
        design = torch.stack([predicted, predicted * data.train.columns[column.name]], dim=1)
        weights = torch.linalg.lstsq(design, y[:, None]).solution
        left = float((y - (design @ weights)[:, 0]).square().sum())
        if left < best:
            constant, slope = weights[:, 0].tolist()
            best, factor = left, apply("add", Number(constant), apply("mul", Number(slope), column.expr))
    if factor is not None:
        yield with_expr(candidate, apply("mul", candidate.expr, factor))


def memory(screen: Screen) -> Iterator[Candidate]:
    """The best weighted sums of one and of two moving averages, the gradient itself counting as one of decay 0."""
    averages = [entry for kind in AVERAGED for entry in gradient_averages(kind, corrected=False)]
    averages = screen.told_apart([*averages, *gradient_averages(corrected=True)], EVEN)
    table = np.column_stack([screen.g, *map(screen.values, averages)])
    terms = [Term(Symbol(SIGNAL)), *(Term(Symbol(entry.label), {entry.label: entry}) for entry in averages)]
    for chosen, weights in (*best_singles(table, screen.y), *best_pairs(table, screen.y)):
        yield weighted_sum([terms[k] for k in chosen], weights)


def lag_sums(screen: Screen) -> Iterator[Candidate]:
    """The best weighted sums of past gradients, of every number of terms."""
    terms = [Term(lagged_signal(k)) for k in range(LAGS + 1)]
    table = torch.from_numpy(np.column_stack([screen.lagged(k) for k in range(LAGS + 1)]))
    y = screen.data.train.y
    for choice in choose(table, y, torch.ones_like(y), LAG_TERMS):
        yield assemble(type(choice)(choice.terms, choice.weights, 0.0), terms, STAGE)
