"""Windows: the columns x, x_1, ..., x_K of a table as the K + 1 steps of an episode, a row each.

An episode begins at the window's oldest step, or at the first step of all where the row is that early (a column that
counts steps says so, or zeros that are nowhere else than at the oldest steps), with states that are 0. What was before
is not in the table, so an average of decay d lacks the share d**(K + 1). In a sum, an average that can have either sign
is taken to have been 0 before, the best guess where gradients are independent; what is never negative, and all of a
ratio, is divided by the share that the window holds, as if all before had been like the window (Adam's correction).
Where episodes are of different lengths these two differ by more than a factor, and both are tried.

The window's signal is called g here, so that the search for recurrences is the one over recordings, and what is found
is a whole rule. Other columns stand in its program as constants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from closedform._document import Line, Within
from closedform.distillation.problem._samples import Samples, Sequences
from closedform.distillation.problem._table_columns import LEAST_LAGS
from closedform.lang import Program, Symbol
from closedform.rules import Rule
from closedform.trajectories import Column, run_source

SIGNAL, TIME = "g", "t"
"""The gradient, over which recurrences are searched, as a rule calls it, and the number of the step."""
CLOCKS = ("t_", "step_", "steps")
"""Columns that may count steps from 1 on: what a table calls its columns t, step and steps."""
KNOWN = ("w", "progress")
"""Further columns that a rule knows by the same name."""
_STATE_LIKE = re.compile(r"(g|t|m|v|u|s|avg|peak|sum|top)(_.*)?")
"""Names that states go by."""


@dataclass(frozen=True)
class Window:
    """A column with all its lags up to some.

    Attributes:
        signal: The column's name.
        lags: K, so that a row shows K + 1 steps.
        clock: The column that counts the steps of the episode that a row is of, from 1 on; None: there is none.
        padded: Whether zeros at the oldest steps are what is before the first.
    """

    signal: Annotated[str, Line(200, 1)]
    lags: Annotated[int, Within(1, 256)]
    clock: Annotated[str, Line(200, 1)] | None = None
    padded: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The window's columns, the oldest step first."""
        return (*(f"{self.signal}_{lag}" for lag in range(self.lags, 0, -1)), self.signal)

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray], lags: Mapping[str, Column]) -> Window | None:
        """The longest window among columns; None if there is none of ``LEAST_LAGS`` lags or more.

        Args:
            values: The columns by name, [N] each.
            lags: Those that are another one's past.
        """
        reach = {name: _reach(name, lags) for name in values if name not in lags}
        signal = max(reach, key=lambda name: reach[name], default="")
        if reach.get(signal, 0) < LEAST_LAGS:
            return None
        window = cls(signal, reach[signal])
        clock = next((name for name in CLOCKS if name in values and window.kept_by(name, values)), None)
        return replace(window, clock=clock, padded=clock is None and window.is_padded(values))

    def kept_by(self, clock: str, values: Mapping[str, np.ndarray]) -> bool:
        """Whether a column counts steps: whole numbers from 1 on, and nothing in the window before the first."""
        steps, oldest_last = values[clock], [values[name] for name in reversed(self.columns)]
        counts = np.isfinite(steps).all() and bool((steps >= 1).all()) and bool((steps == np.rint(steps)).all())
        return counts and not any(np.any(past[steps <= lag]) for lag, past in enumerate(oldest_last) if lag)

    def is_padded(self, values: Mapping[str, np.ndarray]) -> bool:
        """Whether some rows have zeros at their oldest steps, and none has any after another value."""
        begun = np.column_stack([values[name] for name in self.columns]) != 0
        return not begun.all() and bool((begun[:, 1:] >= begun[:, :-1]).all())

    def episodes(self, values: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Each row's episode from its first step on, [N, K + 1], 0 after its last; and how many steps it has, [N]."""
        whole = np.column_stack([np.asarray(values[name], np.float64) for name in self.columns])
        count, most = whole.shape
        steps = np.maximum((whole != 0).sum(axis=1), 1) if self.padded else np.full(count, most)
        if self.clock is not None:
            steps = np.clip(np.nan_to_num(np.asarray(values[self.clock], np.float64), nan=most), 1, most).astype(int)
        place = np.arange(most) + (most - steps)[:, None]
        begun = np.where(place < most, np.take_along_axis(whole, np.minimum(place, most - 1), axis=1), 0.0)
        return torch.from_numpy(begun), torch.from_numpy(steps)

    def states(self, rule: Rule, wanted: Iterable[str], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Values of a rule's states and named values at the end of each row's window, [N] each."""
        own = {**rule.program.state, **rule.program.where}
        read = {name: Symbol(name) for name in wanted if name in own}
        if not read:
            return {}
        episodes, steps = self.episodes(values)
        program = Program(rule.program.constants, rule.program.state, rule.program.where, read).live
        history = run_source(program, episodes.T[None], torch.zeros_like(episodes.T[None]))
        rows = torch.arange(len(steps))
        return {name: found[0, steps - 1, rows].numpy() for name, found in history.items()}

    def inside(self, columns: Sequence[Column]) -> dict[str, str]:
        """What the search calls a table's columns: g, t, and no other one like a state or each other."""
        called = {self.signal: SIGNAL}
        if self.clock is not None:
            called[self.clock] = TIME
        for name in dict.fromkeys(column.feature for column in columns):
            fresh = name
            while fresh in called.values() or (name not in called and _STATE_LIKE.fullmatch(fresh)):
                fresh = f"column_{fresh}"
            called.setdefault(name, fresh)
        return called

    def samples(self, plain: Samples) -> Samples:
        """A table's rows with the episodes that their windows are."""
        called = self.inside(plain.columns)
        values = plain.features.numpy().T
        episodes, steps = self.episodes({column.name: values[k] for k, column in enumerate(plain.columns)})
        rows = torch.arange(len(steps))
        updates = torch.zeros_like(episodes).index_put((rows, steps - 1), plain.updates)
        cells = (rows, steps - 1, torch.zeros_like(rows))
        whole = (episodes[..., None], torch.zeros_like(episodes)[..., None], updates[..., None])
        return replace(
            plain,
            columns=tuple(Column(called[column.feature], column.lag) for column in plain.columns),
            source=self.source(called),
            sequences=Sequences(*whole, cells, ends=True),
        )

    def source(self, called: Mapping[str, str]) -> Program:
        """The program of the signal alone; columns that no rule knows stand there as constants, by both their names."""
        held = {name for pair in called.items() for name in pair} - {SIGNAL, TIME, *KNOWN}
        return Program(dict.fromkeys(sorted(held), 0.0), {}, {}, {SIGNAL: Symbol(SIGNAL)})


def _reach(name: str, lags: Mapping[str, Column]) -> int:
    """How many lags of a column are there without a gap."""
    reach = 0
    while lags.get(f"{name}_{reach + 1}") == Column(name, reach + 1):
        reach += 1
    return reach
