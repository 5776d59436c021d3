"""What a search gives, and whom it tells how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from closedform._progress import OnRecord, Progress
from closedform.distillation._config import DistillConfig
from closedform.distillation.problem import Candidate, Problem


@dataclass(frozen=True)
class Told:
    """Who is told how a distillation goes on."""

    progress: Progress | None = None
    on_record: OnRecord | None = None

    @property
    def listens(self) -> bool:
        """Whether there is anybody: what is told need not be worked out for nobody."""
        return self.progress is not None or self.on_record is not None

    def __call__(self, done: int, total: int, record: Mapping[str, Any]) -> None:
        if self.on_record is not None:
            self.on_record(record)
        if self.progress is not None:
            self.progress(done, total, f"{record['stage']}: R^2 {1 - record['error']:.4f}  {record['equation']}")


@dataclass(frozen=True)
class Scored:
    """An equation that was found.

    Attributes:
        candidate: The equation, over the columns and its own averages and states.
        equation: Its text, under the names that its rule uses.
        error, train_error, complexity, state_cost, stage: As in `Entry`.
        seed: Of the search.
    """

    candidate: Candidate
    equation: str
    error: float
    train_error: float
    complexity: int
    state_cost: int
    stage: str
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a search found: equations of which none is beaten, and how they were found."""

    entries: tuple[Scored, ...]
    provenance: Mapping[str, Any]


Prepared: TypeAlias = Callable[[DistillConfig], Problem]
"""What is searched, for the options of one search."""
Keeps: TypeAlias = Callable[[Scored], bool]
"""Whether an equation can be used as what it is wanted for."""
