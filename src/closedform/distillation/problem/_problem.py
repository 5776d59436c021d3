"""The problem: usable columns, training and held-out rows, moving averages of any decay, states run over sequences.

Expressions are over the recording's own signals, with lags as the language writes them, and over moving averages,
which are named. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from closedform.distillation._config import AUTO, NONE, DistillConfig
from closedform.distillation._front import EXACT
from closedform.distillation.problem._candidate import WHOLE, Average, Candidate, lag_name
from closedform.distillation.problem._compose import compose
from closedform.distillation.problem._episodes import run_over
from closedform.distillation.problem._samples import MAX_ROWS, MIN_ROWS, Samples, Sequences
from closedform.distillation.problem._sequences import run_recurrences
from closedform.distillation.problem._states import Inputs, run_average, start_share
from closedform.distillation.problem._symmetries import Signals, Symmetries, averages_of, decide
from closedform.errors import DistillationError, ExpressionError
from closedform.lang import OPERATORS, Apply, Expr, Lag, Number, Parity, Program, lags, names, walk
from closedform.trajectories import Column, hold_out, run_source

SYMMETRY_ROWS = 5000
"""Training and held-out rows, each, that symmetries are measured on."""
KEPT_STATES = 60
KEPT_AVERAGES = 400
"""Moving averages kept at hand, of at most a few ten thousand rows each."""
UNCOUNTED = 10**9
UNREAD = ("w", "steps")
"""Columns that neither recurrences nor small networks read."""
MARGIN = 1.0
"""How far past the training updates a prediction may be judged, in units of their range."""
BIG = 1e6
"""In standard deviations of the update: what a prediction that is not finite counts as."""


class Part:
    """Some rows: values of columns and averages, and the updates."""

    def __init__(self, samples: Samples, columns: Sequence[Column], rows: Tensor) -> None:
        features = samples.features[rows].to(torch.float64)
        order = {column: index for index, column in enumerate(samples.columns)}
        self.columns = {column.name: features[:, order[column]] for column in columns}
        self.y = samples.updates[rows].to(torch.float64)
        self._samples = samples
        self.rows = rows
        self._averages: dict[Average, Tensor] = {}
        self._inputs: Inputs = {}
        self._lags: dict[str, Tensor] = {}
        self._outcomes: dict[object, Tensor] = {}
        self._states: dict[tuple[tuple[str, Expr], ...], dict[str, Tensor]] = {}

    @property
    def _sequences(self) -> Sequences:
        assert self._samples.sequences is not None
        return self._samples.sequences

    @cached_property
    def cells(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the rows lie in ``signals``: indices of episode, coordinate and step."""
        episode, step, coordinate = (index[self.rows] for index in self._sequences.cells)
        return torch.searchsorted(self._episodes, episode), coordinate, step

    @cached_property
    def signals(self) -> dict[str, np.ndarray]:
        """Every signal over the whole of these rows' episodes, [E, C, T]; 0 where it is not finite."""
        own = self._sequences
        values = run_source(self._samples.source, own.gradients[self._episodes], own.weights[self._episodes])
        finite = {name: torch.nan_to_num(value, 0.0, 0.0, 0.0) for name, value in values.items()}
        return {name: value.transpose(1, 2).contiguous().numpy() for name, value in finite.items()}

    @cached_property
    def episode_gradients(self) -> Tensor:
        """Gradients over the whole of these rows' episodes, as recorded, [E, T, C]."""
        return self._sequences.gradients[self._episodes].to(torch.float64)

    @cached_property
    def episode_updates(self) -> Tensor:
        """The same for the updates."""
        return self._sequences.updates[self._episodes].to(torch.float64)

    @cached_property
    def _episodes(self) -> Tensor:
        return self._sequences.cells[0][self.rows].unique()

    def average(self, average: Average) -> Tensor:
        """A moving average at the rows, [N]; the last few hundred are kept."""
        if average not in self._averages:
            if len(self._averages) >= KEPT_AVERAGES:
                self._averages.pop(next(iter(self._averages)))
            values = torch.from_numpy(run_average(average, self.signals, self._inputs))[self.cells]
            self._averages[average] = values / start_share(average, self.cells[2] + 1) if average.corrected else values
        return self._averages[average]

    def read(self, expr: Expr) -> dict[str, Tensor]:
        """Columns at the rows, [N] each: the recorded ones, and lags that an expression reads beyond them."""
        for node in walk(expr):
            if isinstance(node, Lag) and lag_name(node) not in {**self.columns, **self._lags}:
                self._lags[lag_name(node)] = self._lagged(node)
        return {**self.columns, **self._lags}

    def _lagged(self, lag: Lag) -> Tensor:
        episode, coordinate, step = self.cells
        before = torch.from_numpy(self.signals[lag.name])[episode, coordinate, (step - lag.steps).clamp_min(0)]
        return torch.where(step >= lag.steps, before, 0.0)

    def states(self, recurrences: Mapping[str, Expr]) -> dict[str, Tensor]:
        """Coupled states at the rows, [N] each; the last few are kept."""
        key = tuple(recurrences.items())
        if key and key not in self._states:
            if len(self._states) >= KEPT_STATES:
                self._states.pop(next(iter(self._states)))
            history = run_recurrences(recurrences, self.flat_signals(recurrences.values()), {})
            self._states[key] = {name: self.pick(values)[0].to(torch.float64) for name, values in history.items()}
        return self._states[key] if key else {}

    def flat_signals(self, exprs: Iterable[Expr]) -> dict[str, Tensor]:
        """The signals that expressions read, [T, E * C], float32: recurrences run over them."""
        read = set().union(*(names(expr) for expr in exprs)).intersection(self.signals)
        return {name: torch.from_numpy(self.signals[name]).flatten(0, 1).T.to(torch.float32) for name in sorted(read)}

    def pick(self, history: Tensor) -> Tensor:
        """Values at the rows, [B, N], of what was run over ``flat_signals``: [T, B, E * C]."""
        episode, coordinate, step = self.cells
        width = next(iter(self.signals.values())).shape[1]
        return history.transpose(0, 1)[:, step, episode * width + coordinate]

    @cached_property
    def episode_weights(self) -> Tensor:
        """The same for the parameters."""
        return self._sequences.weights[self._episodes].to(torch.float64)

    def outcome(self, program: Program) -> Tensor:
        """A whole program's update at the rows, [N]; the last few are kept."""
        key = tuple(tuple(part.items()) for part in (program.constants, program.state, program.where, program.outputs))
        if key not in self._outcomes:
            if len(self._outcomes) >= KEPT_STATES:
                self._outcomes.pop(next(iter(self._outcomes)))
            given = (self.episode_gradients, self.episode_weights)
            gradients, weights = (torch.nan_to_num(v, 0.0, 0.0, 0.0).transpose(0, 1).flatten(1) for v in given)
            found = run_over(program, gradients, weights)
            episode, coordinate, step = self.cells
            self._outcomes[key] = found[step, episode * self.episode_gradients.shape[2] + coordinate]
        return self._outcomes[key]

    def values(self, candidate: Candidate) -> dict[str, Tensor]:
        """What the names of a candidate's expression stand for at the rows, [N] each."""
        if candidate.whole is not None:
            return {WHOLE: self.outcome(candidate.whole)}
        averages = {name: self.average(average) for name, average in candidate.averages.items()}
        return {**self.read(candidate.expr), **averages, **self.states(candidate.recurrences)}


def at_rows(expr: Expr, values: Mapping[str, Tensor], count: int) -> Tensor:
    """An expression's values, [count], given its names' values; lags are the columns ``x_k``."""
    return _value(expr, values).to(torch.float64).expand(count)


def _value(expr: Expr, values: Mapping[str, Tensor]) -> Tensor:
    """As `closedform.lang.evaluate`, without looking for equal sub-expressions: these trees are small and many."""
    if isinstance(expr, Apply):
        return OPERATORS[expr.op].torch(*[_value(arg, values) for arg in expr.args])
    if isinstance(expr, Number):
        return torch.tensor(expr.value, dtype=torch.float64)
    return values[lag_name(expr) if isinstance(expr, Lag) else expr.name]


@dataclass(frozen=True)
class Problem:
    """What stages search over.

    Attributes:
        samples: Rows and sequences, of which these are the usable ones.
        columns: The usable columns: finite, not constant, no two alike.
        train, test: Training and held-out rows.
        held_out: In words, what was held out.
        notes: What was left out and why, one line each.
        symmetries: What candidates must keep to.
        exact: 1 - R^2 that rounding of the updates alone may cause.
    """

    samples: Samples
    columns: tuple[Column, ...]
    train: Part
    test: Part
    held_out: str
    notes: tuple[str, ...]
    symmetries: Symmetries
    exact: float = EXACT

    @property
    def recurrent(self) -> bool:
        """True if averages and states can be computed: the sequences are there."""
        return self.samples.sequences is not None

    def predict(self, candidate: Candidate, part: Part) -> Tensor:
        """The candidate's updates at a part's rows, [N]."""
        return at_rows(candidate.expr, part.values(candidate), len(part.y))

    def error(self, candidate: Candidate, part: Part) -> float:
        """1 - R^2 at a part's rows, predictions clipped to the training updates' range and as much on either side.

        R^2 = 1 - sum (y - p)^2 / sum (y - mean y)^2 over the part's rows. Infinite if a prediction is not finite.
        """
        predicted = self.predict(candidate, part)
        if not bool(torch.isfinite(predicted).all()):
            return float("inf")
        low, high = self.train.y.min(), self.train.y.max()
        predicted = predicted.clamp(low - MARGIN * (high - low), high + MARGIN * (high - low))
        spread = torch.square(part.y - part.y.mean()).sum()
        return float(torch.square(part.y - predicted).sum() / spread.clamp_min(1e-300))

    def state_cost(self, candidate: Candidate) -> int:
        """Buffers that a candidate needs: of its program; over a table, past values of the columns, and states.

        `UNCOUNTED` if it is past the language's limits.
        """
        if not self.samples.recorded:
            kept = {average.state for average in candidate.live.averages.values()}
            kept |= {average.about for average in kept if average.about is not None}
            tops = sum(average.kind == "top" for average in kept)
            return sum(lags(candidate.expr).values()) + len(kept) + tops + len(candidate.states)
        try:
            return compose(candidate, self.samples.source).state_cost
        except ExpressionError:
            return UNCOUNTED

    @property
    def windowed(self) -> bool:
        """True if rows are windows: ends of episodes of which nothing else is known."""
        return self.samples.sequences is not None and self.samples.sequences.ends

    @property
    def present(self) -> tuple[Column, ...]:
        """The columns without lag, except the parameter and the number of steps."""
        return tuple(column for column in self.columns if column.lag == 0 and column.feature not in UNREAD)

    @property
    def averaged(self) -> tuple[Column, ...]:
        """Those that recurrences may read, as their past is known: of a table, its window alone."""
        known = self.samples.source.outputs if self.recurrent else {}
        return tuple(column for column in self.present if column.feature in known)

    @property
    def rests(self) -> bool:
        """True if all signals may be 0 at once, as where a parameter has no gradient; not so in a plain table."""
        return self.samples.recorded

    @cached_property
    def scale(self) -> float:
        """Standard deviation of the training updates."""
        return float(self.train.y.std())


def prepare(samples: Samples, config: DistillConfig, exact: float = EXACT) -> Problem:
    """Check rows, leave out what cannot be used, hold out whole parts.

    Args:
        samples: The rows.
        config: What is held out, and how much may be left out.
        exact: 1 - R^2 that rounding of the updates alone may cause.

    Raises:
        DistillationError: too few rows, too many that are not finite, or an update that never changes.
    """
    notes: list[str] = []
    samples = _thinned(samples, notes)
    columns = _usable_columns(samples, notes)
    features = samples.features[:, [samples.columns.index(column) for column in columns]]
    finite = torch.isfinite(features).all(dim=1) & torch.isfinite(samples.updates)
    lost = int((~finite).sum())
    if lost > config.nonfinite_limit * len(finite):
        raise DistillationError(
            f"{lost} of {len(finite)} rows hold NaN or infinity, more than the limit of {config.nonfinite_limit:.0%}; "
            "record an optimizer that does not diverge, or raise nonfinite_limit"
        )
    if lost:
        notes.append(f"{lost} rows with NaN or infinity left out")
    _check_target(samples.updates[finite])
    train, test, held_out = _hold_out(samples, finite, config)
    columns = _distinct(columns, samples, train, notes)
    parts = (Part(samples, columns, train), Part(samples, columns, test))
    kept = _symmetries(samples, columns, parts, config)
    return Problem(samples, columns, *parts, held_out, tuple(notes), kept, exact)


def _symmetries(
    samples: Samples,
    columns: Sequence[Column],
    parts: tuple[Part, Part],
    config: DistillConfig,
) -> Symmetries:
    """What candidates must keep to: measured on the columns and on averages of those that turn with the gradient."""
    plain = Symmetries(samples.source)
    if not samples.recorded:
        if config.symmetries not in (NONE, AUTO):
            raise DistillationError(f"symmetries={config.symmetries!r} needs a recording: a table of data has none")
        return plain
    read, averages = [column.feature for column in columns], _averages(columns, plain) if samples.sequences else []
    rows = [subset(part, SYMMETRY_ROWS, config.seed) for part in parts]
    values = [torch.cat([p.columns[c.name][r] for p, r in zip(parts, rows, strict=True)]) for c in columns]
    values += [torch.cat([p.average(a)[r] for p, r in zip(parts, rows, strict=True)]) for a in averages]
    read += [average.signal for average in averages]
    signals = Signals(
        torch.stack(values, dim=1),
        torch.tensor([plain.forms.signals[name] is Parity.ODD for name in read]),
        torch.tensor([name not in plain.bound_to_scale for name in read]),
    )
    y = torch.cat([part.y[chosen] for part, chosen in zip(parts, rows, strict=True)])
    train = torch.arange(len(y)) < len(rows[0])
    return decide(config.symmetries, samples.source, signals, y, train, config.seed)


def _averages(columns: Sequence[Column], plain: Symmetries) -> list[Average]:
    """Averages of the signals that turn with the gradient."""
    turning = [c.feature for c in columns if c.lag == 0 and plain.forms.signals[c.feature] is Parity.ODD]
    return averages_of(turning)


def subset(part: Part, count: int, seed: int) -> Tensor:
    """Indices of at most ``count`` rows of a part, drawn without replacement, in order."""
    order = torch.randperm(len(part.y), generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def _usable_columns(samples: Samples, notes: list[str]) -> tuple[Column, ...]:
    usable = []
    for index, column in enumerate(samples.columns):
        if bool(torch.isfinite(samples.features[:, index]).any()):
            usable.append(column)
        else:
            notes.append(f"column {column.name} left out: never finite")
    if not usable:
        raise DistillationError("no column holds a finite value; record again")
    return tuple(usable)


def _thinned(samples: Samples, notes: list[str]) -> Samples:
    """At most ``MAX_ROWS`` of the rows."""
    count = len(samples)
    if count <= MAX_ROWS:
        return samples
    notes.append(f"{count:,} rows: {MAX_ROWS:,} of them are used, drawn at random")
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MAX_ROWS].sort().values
    return samples.rows(rows)


def _check_target(updates: Tensor) -> None:
    if len(updates) < MIN_ROWS:
        raise DistillationError(
            f"{len(updates)} usable rows; distillation needs at least {MIN_ROWS}: record more samples"
        )
    low, high = float(updates.min()), float(updates.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        raise DistillationError(f"the update is always {low:g}: there is nothing to distil")


def _distinct(columns: Sequence[Column], samples: Samples, rows: Tensor, notes: list[str]) -> tuple[Column, ...]:
    kept: list[Column] = []
    normed: list[Tensor] = []
    for column in columns:
        values = samples.features[rows, samples.columns.index(column)].to(torch.float64)
        centred = values - values.mean()
        size = float(centred.norm())
        if size <= 1e-9 * float(values.norm()) or size == 0:
            notes.append(f"column {column.name} left out: constant")
            continue
        direction = centred / size
        twin = next(
            (k for k, other in zip(kept, normed, strict=True) if float((direction @ other).abs()) > 1 - 1e-12), None
        )
        if twin is not None:
            notes.append(f"column {column.name} left out: the same as {twin.name}")
            continue
        kept.append(column)
        normed.append(direction)
    if not kept:
        raise DistillationError("every column is constant: there is nothing to distil from")
    return tuple(kept)


def _hold_out(samples: Samples, finite: Tensor, config: DistillConfig) -> tuple[Tensor, Tensor, str]:
    """Indices of training and test rows; whole episodes where there are two, else whole coordinates, else the end."""
    if len(samples.part[finite].unique()) > 1:
        held = sorted(hold_out(samples.parts, config.test_fraction, config.holds_out_by))
        test, what = torch.isin(samples.part, torch.tensor(held)), f"episodes {held}"
    else:
        coordinates = samples.coordinate[finite].unique()
        if len(coordinates) > 1:
            order = torch.randperm(len(coordinates), generator=torch.Generator().manual_seed(config.holds_out_by))
            count = min(max(round(config.test_fraction * len(order)), 1), len(order) - 1)
            test = torch.isin(samples.coordinate, coordinates[order[:count]])
            what = f"{count} of {len(order)} coordinates of the one episode"
        else:
            last = torch.quantile(samples.step[finite].to(torch.float64), 1 - config.test_fraction)
            test, what = samples.step > last, f"steps after {int(last)} of the one coordinate"
    rows = ((finite & ~test).nonzero().squeeze(1), (finite & test).nonzero().squeeze(1))
    if min(map(len, rows)) < 2:
        raise DistillationError("too few rows to hold any out: record more episodes")
    for part in rows:
        _check_spread(samples.updates[part])
    return *rows, what


def _check_spread(updates: Tensor) -> None:
    if float(updates.min()) == float(updates.max()):
        raise DistillationError("the update is constant on the training or the held-out rows: record more episodes")
