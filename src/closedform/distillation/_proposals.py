"""The proposals of all stages on one front: judged on the training rows, tidied, kept if finite and small enough."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from closedform.distillation._config import AUTO, DistillConfig
from closedform.distillation._tidy import tidy
from closedform.distillation.problem import Candidate, Episodes, Problem, at_rows, nodes
from closedform.lang import Apply, Expr, Number, Program, apply, lags, names

ROOM = 2
"""Times ``max_complexity`` that a candidate may have on the way: fitting and pruning often make it smaller."""
SURE = 1e-6
"""1 - R^2 of a whole program that symmetries cannot refuse."""
GUARD = 1e-8
"""Added to a denominator that is 0 at rest, in units of its mean over the training rows."""


@dataclass(frozen=True, order=True)
class Score:
    """How good a candidate is on the training rows: 1 - R^2, nodes, buffers a parameter."""

    error: float
    complexity: int
    state_cost: int


@dataclass
class Pool:
    """Candidates met so far.

    Attributes:
        data: The data.
        config: Limits of complexity and state cost.
        scores: The candidates that were kept.
    """

    data: Problem
    config: DistillConfig
    scores: dict[Candidate, Score] = field(default_factory=dict)
    _costs: dict[frozenset[object], int] = field(default_factory=dict)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Judge candidates and keep those that are usable."""
        most = math.inf if self.config.max_state_cost is None else self.config.max_state_cost
        for proposed in candidates:
            candidate = self._usable(replace(proposed, expr=tidy(proposed.expr)).live)
            candidate = None if candidate is None else self._kept(candidate)
            if candidate is None or candidate in self.scores:
                continue
            error, cost = self.data.error(candidate, self.data.train), self._cost(candidate)
            if math.isfinite(error) and cost <= most:
                self.scores[candidate] = Score(error, nodes(candidate), cost)

    def keep_only(self, candidates: Iterable[Candidate]) -> None:
        """Judge candidates and forget all others."""
        self.scores.clear()
        self.add(candidates)

    def front(self) -> list[Candidate]:
        """Candidates that no other one beats in error, complexity and state cost at once, smallest first."""
        kept: list[tuple[Score, Candidate]] = []
        order = sorted(self.scores.items(), key=lambda item: (item[1].complexity, item[1].state_cost, item[1].error))
        for candidate, score in order:
            beaten = any(
                other.error <= score.error * (1 + 1e-6) and other.state_cost <= score.state_cost for other, _ in kept
            )
            if not beaten:
                kept.append((score, candidate))
        return [candidate for _, candidate in kept]

    def best(self, count: int | None = None, most: float = math.inf) -> list[Candidate]:
        """The front's candidates of least error, of those with at most ``most`` nodes."""
        front = [candidate for candidate in self.front() if self.scores[candidate].complexity <= most]
        return sorted(front, key=lambda candidate: self.scores[candidate])[:count]

    @property
    def least_error(self) -> float:
        """1 - R^2 of the best candidate on the training rows; infinite if there is none."""
        return min((score.error for score in self.scores.values()), default=math.inf)

    def _kept(self, candidate: Candidate) -> Candidate | None:
        """The candidate in a form that keeps to the symmetries; None if there is none.

        They are measured, so a whole program that explains all but nothing knows better.
        """
        measured = candidate.whole is not None and self.config.symmetries == AUTO
        if measured and self.data.error(candidate, self.data.train) < SURE:
            return candidate
        return self.data.symmetries.keep(candidate)

    def _usable(self, candidate: Candidate) -> Candidate | None:
        """The candidate, perhaps with denominators kept off 0; None if it is too large, constant or cannot be saved."""
        if not names(candidate.expr) and not lags(candidate.expr):
            return None
        if self.data.rests and not _finite_at_rest(candidate, self.data):
            candidate = replace(candidate, expr=_guarded(candidate.expr, candidate, self.data))
            if not _finite_at_rest(candidate, self.data):
                return None
        return candidate if nodes(candidate) <= ROOM * self.config.max_complexity else None

    def _cost(self, candidate: Candidate) -> int:
        read = names(candidate.expr)
        states = frozenset(value for name, value in candidate.averages.items() if name in read)
        if candidate.whole is not None:
            return self.data.state_cost(candidate)
        key = frozenset((*read, *lags(candidate.expr).items(), *states, *candidate.recurrences.items()))
        if key not in self._costs:
            self._costs[key] = self.data.state_cost(candidate)
        return self._costs[key]


def _finite_at_rest(candidate: Candidate, data: Problem) -> bool:
    """True if the equation is finite where all signals are 0, as for a parameter that never has a gradient."""
    if candidate.whole is not None:
        return _rests(candidate.whole)
    zero = torch.zeros(1, dtype=torch.float64)
    values = dict.fromkeys((*data.train.read(candidate.expr), *candidate.averages, *candidate.recurrences), zero)
    return bool(torch.isfinite(at_rows(candidate.expr, values, 1)).all())


def _rests(program: Program) -> bool:
    """Whether a whole program gives something finite for some steps without any gradient."""
    still = torch.zeros(3, 1, dtype=torch.float64)
    return bool(torch.isfinite(Episodes(still, still, len(still)).run(program)["update"]).all())


def _guarded(expr: Expr, candidate: Candidate, data: Problem) -> Expr:
    """The expression with a small number added to denominators that are never negative but may be 0."""
    if not isinstance(expr, Apply):
        return expr
    args = [_guarded(arg, candidate, data) for arg in expr.args]
    if expr.op == "div" and not isinstance(args[1], Number):
        below = data.predict(replace(candidate, expr=args[1]), data.train)
        if bool((below >= 0).all()) and bool(torch.isfinite(below).all()):
            args[1] = apply("add", args[1], Number(float(f"{GUARD * float(below.mean()):.1g}")))
    return apply(expr.op, *args)
