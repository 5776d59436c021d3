"""Tune a baseline's learning rate and schedule on the quantity that is reported, with other seeds.

Each value of the grid is run on every tuning seed; the best mean final loss wins, and a value whose run diverged loses
to any that did not. Where the winner lies at an edge, the grid goes on past that edge by a decade, again and again, so
that no baseline suffers from a badly placed grid. Every schedule has a search of its own, and the best of them is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

from closedform._document import Count, Many, Name, Within
from closedform.evaluation._episode import Record
from closedform.evaluation._statistics import Summary, without_interval

_STRIDE = 3  # values added past an edge: a decade of the default grids
MOST_TRIALS = 10_000
"""Learning rates that a results file may tell of, under each schedule."""
Key = TypeVar("Key")
LearningRate: TypeAlias = Annotated[float, Within(-1e300, 1e300)]


class Setting(NamedTuple):
    """A learning rate and a schedule; None is an optimizer's own."""

    lr: float | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class Tuning:
    """How a learning rate was found.

    Attributes:
        lrs: All values tried, increasing.
        losses: Mean final loss over the tuning seeds of each; None where all seeds diverged.
        diverged: Number of seeds that diverged at each.
        best: The value chosen.
        grid: Size of the grid before it was extended.
        seeds: Tuning seeds a value.
        steps: Steps a run.
        at_edge: True if the best value still is at an edge, the number of extensions being limited.
        schedule: The schedule under which all this was.
        others: The same under the schedules that were tried and were not as good.
    """

    lrs: Annotated[tuple[LearningRate, ...], Many(MOST_TRIALS)]
    losses: Annotated[tuple[float | None, ...], Many(MOST_TRIALS)]
    diverged: Annotated[tuple[Count, ...], Many(MOST_TRIALS)]
    best: LearningRate
    grid: Count
    seeds: Count
    steps: Count
    at_edge: bool
    schedule: Name = "constant"
    others: Annotated[tuple[Tuning, ...], Many(100)] = ()

    def __post_init__(self) -> None:
        if not len(self.lrs) == len(self.losses) == len(self.diverged):
            raise ValueError("a tuning's learning rates, losses and divergences differ in number")
        if self.best not in self.lrs:
            raise ValueError(f"the best learning rate, {self.best:g}, is none of those that were tried")
        if max(self.diverged) > self.seeds:
            raise ValueError(f"{max(self.diverged)} of {self.seeds} seeds cannot have diverged")

    @property
    def trials(self) -> int:
        """Number of settings tried: learning rates under each schedule."""
        return len(self.lrs) + sum(other.trials for other in self.others)

    @property
    def runs(self) -> int:
        """Number of runs spent: every trial on every tuning seed."""
        return self.trials * self.seeds


class Search:
    """One baseline's search on one task and schedule: says which values to run next, and takes what they gave."""

    def __init__(self, grid: Sequence[float], extensions: int, schedule: str = "constant") -> None:
        self.schedule = schedule
        self._grid = len(grid)
        self._left = extensions
        self._tried: dict[float, Summary] = {}
        self.wanted: list[float] = list(grid)
        """Values to run next; empty when the search is over."""

    def take(self, results: Mapping[float, Sequence[Record]]) -> None:
        """Take the tuning runs of all wanted values, and decide what to run next."""
        for lr, records in results.items():
            self._tried[lr] = without_interval(record.final_loss for record in records)
        self.wanted = []
        edge = self._edge()
        if edge is not None and self._left:
            self._left -= 1
            self.wanted = edge

    def tuning(self, seeds: int, steps: int) -> Tuning:
        """What was tried and chosen."""
        lrs = sorted(self._tried)
        return Tuning(
            tuple(lrs),
            tuple(self._tried[lr].mean for lr in lrs),
            tuple(self._tried[lr].diverged for lr in lrs),
            self._best(),
            self._grid,
            seeds,
            steps,
            self._edge() is not None,
            self.schedule,
        )

    @property
    def rank(self) -> tuple[int, float]:
        """That of the best value: smaller is better."""
        return self._tried[self._best()].rank

    def _best(self) -> float:
        return min(sorted(self._tried), key=lambda lr: self._tried[lr].rank)

    def _edge(self) -> list[float] | None:
        """Values past the edge that the best lies at, or None."""
        lrs, best = sorted(self._tried), self._best()
        if len(lrs) < 2:
            return None
        if best == lrs[0]:
            return _beyond(lrs[0], lrs[0] / lrs[1])
        if best == lrs[-1]:
            return _beyond(lrs[-1], lrs[-1] / lrs[-2])
        return None


def tune(
    searches: Mapping[Key, Sequence[Search]],
    run: Callable[[Sequence[tuple[Key, Setting]]], Mapping[tuple[Key, Setting], Sequence[Record]]],
) -> None:
    """Carry all searches to their end, in waves, so that runs of different searches share the processes.

    Args:
        searches: For everything that is tuned its searches, one a schedule.
        run: Runs settings of what is tuned on every tuning seed; the records of each.
    """
    each = [(key, search) for key, found in searches.items() for search in found]
    while wave := [(key, Setting(lr, search.schedule)) for key, search in each for lr in search.wanted]:
        records = run(wave)
        for key, search in each:
            if search.wanted:
                search.take({lr: records[key, Setting(lr, search.schedule)] for lr in search.wanted})


def best_of(searches: Sequence[Search], seeds: int, steps: int) -> Tuning:
    """What the searches under several schedules found, the best of them with the others beside it.

    Args:
        searches: One a schedule; of two that are as good the earlier is kept.
        seeds: Tuning seeds a value.
        steps: Steps a run.
    """
    best = min(searches, key=lambda search: search.rank)
    others = tuple(search.tuning(seeds, steps) for search in searches if search is not best)
    return replace(best.tuning(seeds, steps), others=others)


def _beyond(edge: float, ratio: float) -> list[float]:
    return sorted(float(f"{edge * ratio**k:.4g}") for k in range(1, _STRIDE + 1))
