"""Whole training sequences, for judging candidate states by the hundred before any is fitted to all rows.

Rows are samples; a recurrence is seen best over every step of some sequences. The screen holds the gradient and the
update of sequences from all training episodes and all layers, from step 1 on.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from closedform.distillation.problem import SIGNAL, Average, Part, Problem, Samples, Sequences
from closedform.lang import Expr, Lag, Symbol
from closedform.trajectories import Column, column_source

LEAST_ENDS = 1000
"""Rows of windows, however long these are."""
COLUMNS = (Column(SIGNAL),)
EVEN = ("square", "abs")
"""Functions that are never negative."""
STAGE = "recurrences"
"""What the search over it is called."""
DECAYS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
"""The grid, about even in log(d/(1 - d)); what a fit starts from."""


class Screen:
    """Gradients and updates of some sequences, and averages over them.

    Args:
        data: The data; its episodes must be there, and the gradient among its signals.
        sequences: How many, at most.
        cells: Cells at most; long episodes are cut short.

    Attributes:
        data: The same kind of data, of one column: every sequence is an episode, and every step before anything that
            is not finite a row; of windows the last step alone.
    """

    def __init__(self, data: Problem, sequences: int = 48, cells: int = 60_000) -> None:
        if data.windowed:
            samples, rows = data.samples, _ends(data.train, cells)
        else:
            cut = _sequences(data.train, sequences, cells)
            finite = torch.isfinite(cut.updates + cut.gradients).to(torch.int64).cumprod(dim=1)
            samples, rows = _samples(cut), finite.flatten().nonzero().squeeze(1)
        part = Part(samples, COLUMNS, rows)
        self.data = replace(data, samples=samples, columns=COLUMNS, train=part, test=part)

    def told_apart(self, averages: Iterable[Average], corrected: Container[str | None]) -> list[Average]:
        """All averages; where all cells are ends of windows of one length, those that can be known from them.

        There corrected and uncorrected averages are multiples of each other, and one of them is kept. What never fades,
        a sum or the largest value so far, is mostly hidden.

        Args:
            averages: The averages.
            corrected: Functions whose averages are kept corrected, as if all before a window had been like it.
        """
        if self.data.train.cells[2].unique().numel() > 1:
            return list(averages)
        fading = (average for average in averages if average.kind not in ("sum", "top"))
        return list(dict.fromkeys(replace(a, corrected=a.kind == "mean" and a.transform in corrected) for a in fading))

    @property
    def silent(self) -> bool:
        """True if no update is other than 0."""
        return not bool(self.data.train.y.any())

    @cached_property
    def y(self) -> np.ndarray:
        """The updates at the cells, [N]."""
        return self.data.train.y.numpy()

    @property
    def g(self) -> np.ndarray:
        """The gradient at the cells, [N]."""
        return self.lagged(0)

    def values(self, average: Average) -> np.ndarray:
        """An average at the cells, [N]."""
        return self.data.train.average(average).numpy()

    def lagged(self, steps: int) -> np.ndarray:
        """The gradient some steps ago at the cells, [N]; 0 before the start."""
        return self.data.train.read(lagged_signal(steps))[Column(SIGNAL, steps).name].numpy()


def lagged_signal(steps: int) -> Expr:
    """The gradient some steps ago."""
    return Lag(SIGNAL, steps) if steps else Symbol(SIGNAL)


def gradient_averages(transform: str | None = None, *, corrected: bool, kind: str = "mean") -> list[Average]:
    """Averages of the gradient, or of a function of it, over the grid of decays."""
    start = Average(SIGNAL, 0.5, transform, corrected, kind=kind)
    return [replace(start, decay=decay) for decay in DECAYS]


def _ends(part: Part, cells: int) -> Tensor:
    """Rows of windows of so many cells, evenly chosen of those whose windows are not all 0."""
    signal = torch.from_numpy(part.signals[SIGNAL])
    busy = signal.ne(0).any(dim=2)[part.cells[0], 0].nonzero().squeeze(1)
    count = min(max(cells // signal.shape[2], LEAST_ENDS), len(busy))
    picks = torch.linspace(0, max(len(busy) - 1, 0), count).round().to(torch.int64)
    return part.rows[busy[picks]]


def _sequences(part: Part, sequences: int, cells: int) -> Sequences:
    """Sequences that the rows lie on, evenly chosen of those that are not all 0: each an episode of one coordinate."""
    episode, coordinate, step = part.cells
    pairs = torch.unique(torch.stack([episode, coordinate]), dim=1)
    pairs = pairs[:, torch.from_numpy(part.signals[SIGNAL])[pairs[0], pairs[1]].ne(0).any(dim=1)]
    picks = torch.linspace(0, max(pairs.shape[1] - 1, 0), min(sequences, pairs.shape[1])).round().to(torch.int64)
    first, third = pairs[:, picks]
    count, steps = len(picks), min(int(step.max()) + 1, max(cells // max(len(picks), 1), 1))

    def cut(values: Tensor) -> Tensor:
        return values[first, :steps, third].unsqueeze(2)

    gradients, updates = cut(part.episode_gradients), cut(part.episode_updates)
    episode = torch.arange(count).repeat_interleave(steps)
    step = torch.arange(steps).repeat(count)
    return Sequences(gradients, torch.zeros_like(gradients), updates, (episode, step, torch.zeros_like(step)))


def _samples(sequences: Sequences) -> Samples:
    """Every step of every sequence as a row of one column, the gradient."""
    episode, step, coordinate = sequences.cells
    return Samples(
        columns=COLUMNS,
        features=sequences.gradients.reshape(-1, 1),
        updates=sequences.updates.flatten(),
        part=episode,
        parts=[range(len(sequences.gradients))],
        coordinate=coordinate,
        step=step + 1,
        source=column_source((SIGNAL,)),
        sequences=sequences,
        recorded=True,
    )
