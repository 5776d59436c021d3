"""What a problem is made of: rows to regress over, and the whole sequences that they lie on, where there are any.

Recordings, plain tables and screens each build `Samples`; everything after is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from closedform.errors import DataError
from closedform.lang import Program
from closedform.trajectories import Column, Trajectories

MAX_ROWS = 100_000
"""More rows than this are thinned out: the constants of an equation do not get better, only slower."""
MIN_ROWS = 20
"""Fewer rows than this cannot hold out any and say something about a fit."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """What recurrences run over.

    Attributes:
        gradients, weights, updates: [E, T, C], from step 1 on.
        cells: Where each row lies in them: indices of the three dimensions, [N] each.
        ends: Whether updates are known at the rows alone, each the end of an episode of its own: the rows of windows.
    """

    gradients: Tensor
    weights: Tensor
    updates: Tensor
    cells: tuple[Tensor, Tensor, Tensor]
    ends: bool = False


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows, and their sequences.

    Attributes:
        columns: What each column of ``features`` is.
        features: [N, F].
        updates: [N], what is to be explained.
        part: [N], the number of the episode that a row is of, or of the block of a table; parts are held out whole.
        parts: The numbers, those of one task together.
        coordinate, step: [N], which parameter of its part a row is of, and at which step.
        source: The program of the columns' signals; of a table, whose signals are data, an empty one.
        sequences: None if nothing can be run: a table, or a recording whose rows lie on no episode.
        recorded: Whether an optimizer was recorded, whose signals may all be 0 at once.
        provenance: Where they come from.
    """

    columns: tuple[Column, ...]
    features: Tensor
    updates: Tensor
    part: Tensor
    parts: Sequence[Sequence[int]]
    coordinate: Tensor
    step: Tensor
    source: Program = field(default_factory=Program)
    sequences: Sequences | None = None
    recorded: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trajectories: Trajectories) -> Samples:
        """A recording's."""
        recorded = trajectories.gradients.numel() > 0
        return cls(
            columns=trajectories.columns,
            features=trajectories.features,
            updates=trajectories.updates,
            part=trajectories.episode,
            parts=trajectories.episodes_by_task,
            coordinate=trajectories.coordinate,
            step=trajectories.step,
            source=trajectories.source,
            sequences=_sequences(trajectories) if recorded else None,
            recorded=recorded,
            provenance=trajectories.provenance,
        )

    def __len__(self) -> int:
        return len(self.updates)

    def rows(self, chosen: Tensor) -> Samples:
        """Some of the rows, by their indices; the sequences stay."""
        sequences = self.sequences
        if sequences is not None:
            episode, step, coordinate = (index[chosen] for index in sequences.cells)
            sequences = replace(sequences, cells=(episode, step, coordinate))
        each = {name: getattr(self, name)[chosen] for name in ("features", "updates", "part", "coordinate", "step")}
        return replace(self, **each, sequences=sequences)


def _sequences(trajectories: Trajectories) -> Sequences | None:
    try:
        cells = trajectories.positions()
    except DataError:
        return None
    return Sequences(trajectories.gradients, trajectories.weights, trajectories.episode_updates, cells)
