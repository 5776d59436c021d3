"""Distillation: from a recording to a hall of fame of rules.

Quick stages first, then the back end's search over the columns and the states that the quick stages chose; all
proposals meet on one front. Those on it are fitted to all training rows, pruned, rounded, and judged on episodes that
nothing was fitted to.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from closedform._options import with_options
from closedform._plugins import member
from closedform._progress import OnRecord, Progress
from closedform._version import __version__
from closedform.distillation._config import DistillConfig
from closedform.distillation._front import non_dominated
from closedform.distillation._hall import Entry, HallOfFame
from closedform.distillation._outcome import Keeps, Outcome, Prepared, Scored, Told
from closedform.distillation._proposals import Pool
from closedform.distillation._restarts import restarted
from closedform.distillation._tidy import tidy
from closedform.distillation.engines import BACKENDS, Backend
from closedform.distillation.fit import prune, refine, round_constants
from closedform.distillation.problem import (
    UNCOUNTED,
    Candidate,
    Problem,
    Samples,
    compose_rule,
    equation,
    prepare,
    state_names,
    subset,
)
from closedform.distillation.stages import FITTED, STAGES, bound_of, gated, units
from closedform.errors import OptionError, RuleError
from closedform.lang import Expr, Parity, Program, Symbol, names, rename, to_text, transform
from closedform.rules import Rule
from closedform.trajectories import Trajectories

INTERRUPTED = "interrupted: the best so far"


@dataclass(frozen=True)
class Effort:
    """How much each step of a distillation does, and when.

    Attributes:
        quick_fits, quick_steps, quick_rows: Candidates of the front that are fitted after a quick stage, by how many
            steps, on how many rows.
        networks_from: 1 - R^2 above which small networks are fitted too.
        units: Numbers of tanh units that are tried.
        search_from: 1 - R^2 above which the engine, in single precision, can improve on what was found.
        search_states: Averages and further states that the engine is given, besides the columns.
        search_columns: Columns that it is given at most, the earliest lags first.
        refined, pruned: Candidates of the front, best first, that are fitted, and of the engine's, that are pruned.
        prune_tolerance: R^2 that pruning may cost in all.
        quick_until, networks_until, search_until: Shares of the time limit after which a stage begins nothing more; the
            rest is for fitting, pruning and rounding.
    """

    quick_fits: int = 8
    quick_steps: int = 6
    quick_rows: int = 3000
    networks_from: float = 0.01
    units: tuple[int, ...] = (2, 3)
    search_from: float = 1e-6
    search_states: int = 6
    search_columns: int = 64
    refined: int = 16
    pruned: int = 4
    prune_tolerance: float = 0.02
    quick_until: float = 0.2
    networks_until: float = 0.5
    search_until: float = 0.75


EFFORT = Effort()


def distill(
    trajectories: Trajectories,
    backend: str = "operon",
    config: DistillConfig | None = None,
    *,
    progress: Progress | None = None,
    on_record: OnRecord | None = None,
    name: str | None = None,
    **options: Any,
) -> HallOfFame:
    """Distil a recording into rules.

    Args:
        trajectories: The recording.
        backend: A name in ``BACKENDS``.
        config: How to distil.
        progress: Called after every stage and every few generations, with the generations of genetic programming done.
        on_record: Called then with ``stage``, ``generation``, ``seconds`` since the start, and of the best equation so
            far ``error``, 1 - R^2 on the rows that the stage sees, and ``equation``, its text.
        name: The rules' name; by default the optimizer's, with "-distilled".
        options: Fields of `DistillConfig` by name, in place of ``config``'s: ``time_limit``, ``seed``, ...

    Returns:
        The hall of fame. An interrupt from the keyboard ends the search, not the function: what was found is returned.

    Raises:
        DistillationError: the data or an operator cannot be used.
        OptionError: an option makes no sense.
        UnknownNameError: no such back end.
    """
    if not isinstance(trajectories, Trajectories):
        raise OptionError(
            f"distill takes a recording, not {type(trajectories).__name__}: make one by record(...), or read one by "
            "Trajectories.load(path)"
        )
    config = with_options(config or DistillConfig(), options, "option of distill")
    optimizer = _optimizer(trajectories)
    composer = _Composer(
        name or f"{optimizer}-distilled"[:200],
        trajectories.source,
        optimizer,
        tuple(trajectories.provenance.get("tasks", ())),
    )
    problem = functools.partial(prepare, Samples.of(trajectories))
    found = search(problem, backend, config, Told(progress, on_record), composer)
    return HallOfFame(tuple(composer.entry(one) for one in found.entries), found.provenance)


def _engine(name: str) -> Backend:
    """An engine of ours, or a plug-in's: the object, or what a function or class makes."""
    found: Any = member("back end", "closedform.engines", name, BACKENDS)
    return found() if (callable(found) and not hasattr(found, "name")) or isinstance(found, type) else found


def search(problem: Prepared, backend: str, config: DistillConfig, told: Told, keeps: Keeps) -> Outcome:
    """Search equations over a problem of any kind, which is prepared for the options of each restart."""
    engine = _engine(backend)
    engine.check(config)
    if config.restarts > 1:
        return restarted(functools.partial(_once, problem, backend, keeps), config, told)
    distillation = _Distillation(problem(config), config, told)
    try:
        with threadpool_limits(1, user_api="blas"):  # its sums depend on its threads, and the matrices are small
            distillation.run(engine)
    except KeyboardInterrupt:
        distillation.interrupted = True
    return distillation.outcome(engine.name, keeps)


def _once(problem: Prepared, backend: str, keeps: Keeps, config: DistillConfig, told: Told) -> Outcome:
    return search(problem, backend, config, told, keeps)


@dataclass
class _Distillation:
    data: Problem
    config: DistillConfig
    told: Told
    interrupted: bool = False
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.pool = Pool(self.data, self.config)

    def run(self, engine: Backend) -> None:
        for stage, propose in STAGES.items():
            long = self.data.windowed and stage in FITTED  # an exact sum of lags may be a recurrence written at length
            if self.pool.least_error > self.data.exact or long:
                self.pool.add(propose(self.data, self.config))
                if stage not in FITTED:
                    self.fit_quickly()
                self.report(stage)
        if self.pool.least_error > EFFORT.networks_from:
            self.fit_networks()
        if self.pool.least_error > EFFORT.search_from:
            self.search(engine)
        self.refine()
        self.prune(engine)
        self.pool.keep_only([round_constants(candidate, self.data) for candidate in self.pool.front()])
        self.report("finished", self.config.generations)

    def until(self, share: float) -> float:
        """The moment when a share of the time limit is over, as ``time.monotonic()`` tells it."""
        return self.start + share * self.config.time_limit

    def fit_quickly(self) -> None:
        for candidate in self.pool.best(EFFORT.quick_fits):
            if time.monotonic() < self.until(EFFORT.quick_until):
                self.pool.add([refine(candidate, self.data, EFFORT.quick_steps, EFFORT.quick_rows)])

    def fit_networks(self) -> None:
        data, seed, deadline = self.data, self.config.seed, self.until(EFFORT.networks_until)
        averages = data.recurrent and bool(self.config.decays)
        forms = [functools.partial(units, data, count, averages) for count in EFFORT.units]
        if data.averaged:
            forms += [functools.partial(gated, data, 1 + k, self.bound()) for k in range(self.config.gates)]
        for form in forms:
            for candidate in form(seed, deadline):
                self.pool.add([candidate])
                self.report(candidate.stage)

    def bound(self) -> float | None:
        """The largest update, if a bounded function fits better than an unbounded one so far."""
        best = dict.fromkeys(("sparse", "saturating"), math.inf)
        for candidate, score in self.pool.scores.items():
            if candidate.stage in best:
                best[candidate.stage] = min(best[candidate.stage], score.error)
        return bound_of(self.data) if best["saturating"] < best["sparse"] else None

    def refine(self) -> None:
        """Fit the front's best to all training rows."""
        for candidate in self.pool.best(EFFORT.refined):
            if time.monotonic() < self.until(1.0):
                self.pool.add([refine(candidate, self.data)])

    def prune(self, engine: Backend) -> None:
        found = [candidate for candidate in self.pool.best() if candidate.stage == engine.name]
        for candidate in found[: EFFORT.pruned]:
            if time.monotonic() < self.until(1.0):
                self.pool.add(prune(candidate, self.data, EFFORT.prune_tolerance))

    def search(self, engine: Backend) -> None:
        """Let the engine search over the columns and the states that the front chose."""
        rows = subset(self.data.train, self.config.rows, self.config.seed)
        columns, states = self.data.columns[: EFFORT.search_columns], self.chosen_states()
        values = {column.name: self.data.train.columns[column.name][rows].numpy() for column in columns}
        for label, owner in states.items():
            values[label] = self.data.train.values(owner)[label][rows].numpy()
        y = self.data.train.y[rows].numpy()
        if self.data.symmetries.odd:
            values, y = self.mirrored(values, y, states)
        written: dict[str, Expr] = {column.name: column.expr for column in columns}
        for found in engine.search(values, y, self.config, self.until(EFFORT.search_until)):
            self.pool.add(_with_states(_renamed(expr, written), states, engine.name) for expr in found.front)
            self.report(engine.name, found.generation)

    def mirrored(
        self, values: Mapping[str, np.ndarray], y: np.ndarray, states: Mapping[str, Candidate]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The rows, and the same turned: the engine is drawn to odd equations."""
        known = dict(self.data.symmetries.forms.signals)
        for label, owner in states.items():
            known[label] = self.data.symmetries.forms.known(owner)[label]
        known |= {column.name: known[column.feature] for column in self.data.columns}
        signs = {name: -1.0 if known[name] is Parity.ODD else 1.0 for name in values}
        turned = {name: np.concatenate([x, signs[name] * x]) for name, x in values.items()}
        return turned, np.concatenate([y, -y])

    def chosen_states(self) -> dict[str, Candidate]:
        """Averages and states of the front's candidates, the best one's first; with the candidate that has them."""
        chosen: dict[str, Candidate] = {}
        for candidate in self.pool.best(most=self.config.max_complexity):
            for label in (*candidate.averages, *candidate.recurrences):
                clash = any(_clash(candidate, owner) for owner in chosen.values())
                new = label in names(candidate.expr) and label not in chosen and len(chosen) < EFFORT.search_states
                if new and not clash:
                    chosen[label] = candidate
        return chosen

    def report(self, stage: str, generation: int = 0) -> None:
        if self.told.listens and self.pool.scores:
            (best,) = self.pool.best(1, most=self.config.max_complexity) or self.pool.best(1)
            record = {
                "stage": stage,
                "generation": generation,
                "seconds": time.monotonic() - self.start,
                "error": self.pool.least_error,
                "equation": to_text(best.expr),
            }
            self.told(generation, self.config.generations, record)

    def outcome(self, backend: str, keeps: Keeps) -> Outcome:
        """What was found, judged on the held-out rows."""
        found = (self.scored(candidate) for candidate in self.pool.scores)
        usable = [one for one in found if self.counts(one) and keeps(one)]
        return Outcome(non_dominated(usable, self.data.exact), self.provenance(backend))

    def counts(self, found: Scored) -> bool:
        """Whether an equation is finite and small enough."""
        small = found.complexity <= self.config.max_complexity and found.state_cost < UNCOUNTED
        return small and math.isfinite(found.error + found.train_error)

    def scored(self, candidate: Candidate) -> Scored:
        score = self.pool.scores[candidate]
        if candidate.whole is not None:
            text = to_text(tidy(equation(candidate.whole)))
        else:
            text = to_text(rename(candidate.expr, state_names(candidate.live, self.data.samples.source)))
        error = self.data.error(candidate, self.data.test)
        kept = (score.error, score.complexity, score.state_cost, candidate.stage, self.config.seed)
        return Scored(candidate, text, error, *kept)

    def provenance(self, backend: str) -> dict[str, Any]:
        config = dataclasses.asdict(self.config)
        return {
            "recording": dict(self.data.samples.provenance),
            "backend": backend,
            "config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
            "held_out": self.data.held_out,
            "rows": {"train": len(self.data.train.y), "held_out": len(self.data.test.y)},
            "exact": self.data.exact,
            "symmetries": self.data.symmetries.to_dict(),
            "notes": [*self.data.notes, *([INTERRUPTED] if self.interrupted else [])],
            "interrupted": self.interrupted,
            "seconds": round(time.monotonic() - self.start, 2),
            "versions": {"closedform": __version__},
        }


def _clash(one: Candidate, other: Candidate) -> bool:
    """Whether a name stands for different states in them."""
    shared = one.averages.keys() & other.averages.keys()
    if any(one.averages[name] != other.averages[name] for name in shared):
        return True
    shared = one.recurrences.keys() & other.recurrences.keys()
    return one is not other and bool(shared)


def _renamed(expr: Expr, written: Mapping[str, Expr]) -> Expr:
    """An expression over columns' names as one over signals and their lags."""
    return transform(expr, lambda node: written.get(node.name, node) if isinstance(node, Symbol) else node)


def _with_states(expr: Expr, states: Mapping[str, Candidate], stage: str) -> Candidate:
    """An expression with the averages and recurrences of the candidates whose states it reads."""
    owners = [states[label] for label in states if label in names(expr)]
    averages = {name: average for owner in owners for name, average in owner.averages.items()}
    recurrences = {name: value for owner in owners for name, value in owner.recurrences.items()}
    return Candidate(expr, averages, recurrences, stage).live


@dataclass(frozen=True)
class _Composer:
    """Makes entries of a hall: whole rules, of which some are past the language's limits."""

    name: str
    source: Program
    optimizer: str
    tasks: tuple[str, ...]

    def __call__(self, found: Scored) -> bool:
        """Whether a rule can be made of an equation, and read back."""
        try:
            self.rule(found)
        except RuleError:
            return False
        return True

    def rule(self, found: Scored) -> Rule:
        """The rule, as it is read back.

        Raises:
            RuleError: it is past the language's limits.
        """
        results = {
            "r2": round(1 - found.error, 6),
            "r2_train": round(1 - found.train_error, 6),
            "complexity": found.complexity,
        }
        provenance = {
            "source": "distilled by closedform",
            "optimizer": self.optimizer,
            "tasks": list(self.tasks),
            "stage": found.stage,
            "seed": found.seed,
        }
        if found.candidate.words:
            provenance["design"] = found.candidate.words
        composed = compose_rule(self.name, found.candidate, self.source, provenance, results)
        return Rule.from_dict(composed.to_dict())

    def entry(self, found: Scored) -> Entry:
        rule = self.rule(found)
        kept = (found.equation, found.error, found.train_error, found.complexity, rule.state_cost, found.stage)
        return Entry(rule, *kept)


def _optimizer(trajectories: Trajectories) -> str:
    described = trajectories.provenance.get("optimizer", {})
    known = described.get("name") if isinstance(described, dict) else None
    return str(known or "optimizer")
