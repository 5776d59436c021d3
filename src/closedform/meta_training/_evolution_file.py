"""``evolution.json``: a run of `evolve` so far, from which it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from closedform._document import Count, Malformed, Many, read
from closedform._files import read_json
from closedform.errors import CheckpointError
from closedform.meta_training._references import Reference

FORMAT = "closedform.evolution/1"

_Scores: TypeAlias = Annotated[tuple[float, ...], Many(100_000)]


@dataclass(frozen=True)
class Generation:
    """A generation in the file."""

    tasks: Annotated[tuple[Count, ...], Many(100_000)]
    scores: _Scores
    mean_score: float
    mean: _Scores
    validation: float | None = None


@dataclass(frozen=True)
class EvolutionFile:
    """The file ``evolution.json``."""

    format: Literal["closedform.evolution/1"]
    run: Mapping[str, Any]
    references: Annotated[tuple[Reference, ...], Many(100_000)]
    history: Annotated[tuple[Generation, ...], Many(100_000)]


def read_evolution(path: str | Path) -> list[dict[str, Any]]:
    """The records of a run, as ``on_record`` was told them but for the seconds.

    Args:
        path: The run's ``evolution.json``.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        found: EvolutionFile = read(read_json(Path(path), what="evolution"), EvolutionFile)
    except Malformed as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return [
        {"generation": number, "score": entry.mean_score, "best": min(entry.scores), "validation": entry.validation}
        for number, entry in enumerate(found.history, 1)
    ]
