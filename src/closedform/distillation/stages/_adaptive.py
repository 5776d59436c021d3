"""Adaptive updates: a moving average of the gradient over the root of one that is never negative.

    update = c * N / (root(D) + eps)

Here N is the gradient or an average of it, D an average of g^2 (Adam, RMSProp), of |g|, of (g - m)^2 (AdaBelief), a
decaying peak of |g| (Adamax), a sum of g^2 (Adagrad), or the largest average so far (AMSGrad); averages are corrected
for their start at 0 or not. For every D of the grid the best N of the grid follows from a regression of two unknowns,
since the form is linear in c and eps:

    update * root(D) = c * N - eps * update
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from closedform.distillation.problem import SIGNAL, Average, Candidate
from closedform.distillation.stages._dictionary import Term
from closedform.distillation.stages._screen import DECAYS, EVEN, STAGE, Screen, gradient_averages
from closedform.distillation.stages._sums import best_pairs, weighted_sum
from closedform.lang import Expr, Number, Symbol, apply

FORMS, KINDS_TRIED = 8, 5
"""Forms that are handed on: the best ones of different kinds, then the best."""
DEFAULT_EPS, REST = 1e-8, 1e-3
"""eps where the regression finds none, and what a root of D counts as at least, in units of its median: cells at rest
say little."""
NUMERATORS = (*gradient_averages(corrected=False), *gradient_averages(corrected=True))
"""Averages that may stand above, besides the gradient (None)."""
SPREAD_DECAYS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Decays of the means that (g - m)^2 is taken about."""


@dataclass(frozen=True)
class _Below:
    """What may stand below: root(average) + eps."""

    average: Average
    root: str | None

    @property
    def kind(self) -> tuple[object, ...]:
        average = self.average
        return self.root, average.transform, average.corrected, average.kind, average.about is not None

    def rooted(self, values: np.ndarray) -> np.ndarray:
        values = np.maximum(values, 0)
        return np.sqrt(values) if self.root else values

    def expr(self, floor: float) -> Expr:
        inner: Expr = Symbol(self.average.label)
        if self.root:
            inner = apply(self.root, inner)
        return apply("add", inner, Number(floor))


@dataclass(frozen=True)
class _Form:
    """What stands above, what below, the weight c and the floor eps; 1 - R^2 about 0 on the screen."""

    error: float
    above: Average | None
    below: _Below
    weight: float
    floor: float

    @property
    def kind(self) -> tuple[object, ...]:
        return self.below.kind, self.above is None, self.above is not None and self.above.corrected

    @property
    def averages(self) -> dict[str, Average]:
        """All that the form reads, and what that is taken about."""
        parts = [entry for entry in (self.above, self.below.average) if entry is not None]
        about = self.below.average.about
        if about is not None and about not in [entry.state for entry in parts]:
            parts.append(about)
        return {entry.label: entry for entry in parts}

    def candidate(self, below: Expr) -> Candidate:
        ratio = apply("mul", Number(self.weight), apply("div", _term(self.above).expr, below))
        return Candidate(ratio, self.averages, stage=STAGE)


def _term(average: Average | None) -> Term:
    return Term(Symbol(average.label), {average.label: average}) if average else Term(Symbol(SIGNAL))


class Adaptive:
    """The three searches for adaptive forms over one screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    @cached_property
    def _forms(self) -> list[_Form]:
        """All forms, best first; ahead of them the best ones of different kinds."""
        forms = [form for below in self._told_apart(_below()) for form in self._any.best(below, self._screen)]
        for decay in SPREAD_DECAYS:
            about = Average(SIGNAL, decay)
            few = self._above([about, replace(about, corrected=True)])
            forms += [form for below in self._told_apart(_spreads(about)) for form in few.best(below, self._screen)]
        forms.sort(key=lambda form: form.error)
        firsts: dict[object, _Form] = {}
        for form in forms:
            firsts.setdefault(form.kind, form)
        return list(dict.fromkeys([*list(firsts.values())[:KINDS_TRIED], *forms]))

    @cached_property
    def _any(self) -> _Above:
        return self._above(NUMERATORS)

    def _above(self, averages: Iterable[Average]) -> _Above:
        return _Above([None, *self._screen.told_apart(averages, (None, *EVEN))], self._screen)

    def _told_apart(self, below: Iterable[_Below]) -> list[_Below]:
        offered = {entry.average: entry for entry in below}
        return [offered[average] for average in self._screen.told_apart(offered, EVEN)]

    def ratios(self) -> Iterator[Candidate]:
        """c*N/(root(D) + eps)."""
        for form in self._forms[:FORMS]:
            yield form.candidate(form.below.expr(form.floor))

    def inside(self) -> Iterator[Candidate]:
        """c*N/sqrt(D + eps): the floor under the root, as where it is added to the state."""
        for form in self._forms[:KINDS_TRIED]:
            if form.below.root == "sqrt":
                under = apply("add", Symbol(form.below.average.label), Number(form.floor**2))
                yield form.candidate(apply("sqrt", under))

    def mixed(self) -> Iterator[Candidate]:
        """(c*N + k*N')/(root(D) + eps), as in Nadam."""
        for below in list(dict.fromkeys(form.below for form in self._forms[:KINDS_TRIED])):
            form = next(form for form in self._forms if form.below == below)
            root = below.rooted(self._screen.values(below.average)) + form.floor
            table = self._any.table / np.maximum(root, 1e-300)[:, None]
            for chosen, weights in best_pairs(table, self._screen.y):
                above = weighted_sum([_term(self._any.entries[k]) for k in chosen], weights)
                expr = apply("div", above.expr, below.expr(form.floor))
                yield replace(above, expr=expr, averages={**above.averages, **form.averages})


def _below() -> Iterator[_Below]:
    for corrected in (True, False):
        for transform, root in (("square", "sqrt"), ("abs", None)):
            for average in gradient_averages(transform, corrected=corrected):
                yield _Below(average, root)
        for average in gradient_averages("square", corrected=corrected, kind="top"):
            yield _Below(average, "sqrt")
    for average in gradient_averages("abs", corrected=False, kind="peak"):
        yield _Below(average, None)
    yield _Below(Average(SIGNAL, 0.5, "square", kind="sum"), "sqrt")


def _spreads(about: Average) -> Iterator[_Below]:
    for corrected in (True, False):
        for decay in DECAYS:
            if decay >= about.decay:
                yield _Below(Average(SIGNAL, decay, "square", corrected, about), "sqrt")


class _Above:
    """What may stand above, over the screen: the gradient (None) and averages of it."""

    def __init__(self, entries: Sequence[Average | None], screen: Screen) -> None:
        self.entries = entries
        self.table = np.column_stack([screen.g if entry is None else screen.values(entry) for entry in entries])
        self._squares = np.square(self.table)
        self._y = screen.y
        self._total = float(screen.y @ screen.y)

    def best(self, below: _Below, screen: Screen) -> Iterator[_Form]:
        """The best above something, of averages and of corrected ones.

        Every N is tried in ``u*root = c*N - eps*u``, weighted by 1/root so that large roots do not decide alone: least
        squares in c and eps, whose normal equations are, with a = N/root, b = -u/root and the target y = u,

            c <a, a> + eps <a, b> = <a, y>,    c <a, b> + eps <b, b> = <b, y>.

        Where they give no positive eps it is set to a small one, and c to <a, y>/<a, a>.
        """
        root = below.rooted(screen.values(below.average))
        weights = 1 / (root + REST * max(float(np.median(root)), 1e-3 * float(root.mean()), 1e-150))
        b, target = -self._y * weights, self._y * root * weights
        a_a = self._squares.T @ np.square(weights)
        a_b, a_y = self.table.T @ (b * weights), self.table.T @ (target * weights)
        b_b, b_y = float(b @ b), float(b @ target)
        determinant = np.maximum(a_a * b_b - np.square(a_b), 1e-12 * a_a * b_b + 1e-300)
        scales = (a_y * b_b - b_y * a_b) / determinant
        floors = (b_y * a_a - a_y * a_b) / determinant
        scales = np.where(floors > 0, scales, a_y / np.maximum(a_a, 1e-300))
        floors = np.where(floors > 0, floors, DEFAULT_EPS * float(root.mean()))
        left = float(target @ target) - scales * a_y - floors * b_y
        for group in self._groups():
            k = group[int(left[group].argmin())]
            predicted = scales[k] * self.table[:, k] / np.maximum(root + floors[k], 1e-300)
            error = float(np.square(self._y - predicted).sum()) / self._total
            yield _Form(error, self.entries[k], below, float(scales[k]), float(floors[k]))

    def _groups(self) -> list[list[int]]:
        kinds: dict[object, list[int]] = {}
        for k, entry in enumerate(self.entries):
            kinds.setdefault(entry and entry.corrected, []).append(k)
        return list(kinds.values())
