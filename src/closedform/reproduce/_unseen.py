"""Rules on the ten tasks that no meta-training has seen, beside AdamW with warm-up and cosine.

Everyone's final loss counts at its own learning rate and schedule, found on other seeds with a stated number of trials.
Targets are the losses at which AdamW-cosine ends, tuned for each task and at its best single rate over all of them; how
many steps a rule takes to get there is measured by running it over shorter and longer horizons.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from closedform import tasks
from closedform._files import write_text
from closedform._options import check_count
from closedform._progress import Progress
from closedform.errors import DivergenceError
from closedform.evaluation import (
    CAP,
    Baseline,
    Entry,
    EvaluationOptions,
    StepsToTarget,
    Tuning,
    evaluate,
    first_reached,
    geometric_mean,
    log_grid,
    smoothed_end,
    steps_to_target,
)
from closedform.report import profile_plot as plot
from closedform.report import standalone
from closedform.reproduce._base import measured_on, save
from closedform.reproduce._entrants import REFERENCE, RULE, SINGLE, THREE, Entrant, at_single_rate, chosen, reference
from closedform.reproduce._unseen_numbers import HorizonRow, UnseenRow, Verdict, verdicts
from closedform.reproduce._unseen_result import UnseenResult
from closedform.tasks import Task

Named = tuple[str, Mapping[str, Any]]
"""A task's name, and options in place of its own."""


@dataclass(frozen=True)
class UnseenPlan:
    """What is run.

    Attributes:
        tasks: Where all are compared.
        rates: Learning rates of AdamW-cosine.
        horizon_task, horizons: The study of horizons: one task, and its numbers of steps.
        fractions: Factors by which horizons are made shorter, and longer, to measure steps to the target.
        tail: Steps at an episode's end whose mean is the final loss, and the same in the study of horizons.
        tuning_seeds: Seeds that a learning rate is tuned on.
    """

    tasks: Sequence[Named] = tuple((name, {}) for name in tasks.UNSEEN)
    rates: tuple[float, ...] = log_grid(-4, 0)
    horizon_task: Named = ("mlp-wide-fashion-mnist", {"init_std": None, "batch_size": 64})
    horizons: tuple[int, ...] = (100, 1000, 10000)
    fractions: tuple[float, ...] = (1.1, 1.3, 1.5, 2.0)
    tail: int = 50
    horizon_tail: int = 20
    tuning_seeds: int = 2


_SMALL: Mapping[str, Any] = {"horizon": 60, "batch_size": 32}
QUICK = UnseenPlan(
    tasks=(
        ("factorisation", {**_SMALL, "rows": 30, "columns": 20, "rank": 2, "width": 3, "observed": 500}),
        ("deep-linear", {**_SMALL, "inputs": 6, "outputs": 3, "width": 8, "layers": 3, "rows": 200}),
    ),
    rates=(3e-3, 1e-2, 3e-2),
    horizon_task=("mlp-digits", {}),
    horizons=(10, 30),
    fractions=(2.0,),
    tail=5,
    horizon_tail=3,
    tuning_seeds=1,
)


def unseen(
    seeds: int = 5,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    data_dir: str | Path | None = None,
    quick: bool = False,
    entrants: Sequence[str] | None = None,
    workers: int | None = None,
) -> UnseenResult:
    """Compare rules with annealed, tuned baselines on the ten unseen tasks, and over horizons.

    Args:
        seeds: Reporting seeds; learning rates are tuned on others.
        out: Folder to write ``reproduce_unseen.md``, ``.json`` and ``_profile.svg`` to; finished runs are kept in its
            folder ``unseen``, so that an interrupted table goes on where it stopped.
        progress: Called after every run.
        data_dir: Folder of the data files.
        quick: Two small tasks, short episodes, few rates.
        entrants: Names of baselines, library rules, or paths of rule files; None: the shipped rule, where there is one,
            and all baselines that are installed. A rule takes part untuned, and with three learning rates.
        workers: Processes; None is one a core.

    Raises:
        OptionError: ``seeds`` is not a whole number of at least 1, or an entrant's package is missing.
        DataError: a task's data are missing; the message says how to get them.
        UnknownNameError, RuleError: an entrant cannot be loaded.
        DivergenceError: AdamW-cosine itself diverged on a task, so that there is nothing to compare with.
    """
    check_count("seeds", seeds)
    begin, plan = time.monotonic(), QUICK if quick else UnseenPlan()
    ready = [tasks.get(name, data_dir=data_dir, **options) for name, options in plan.tasks]
    options = EvaluationOptions(tuning_seeds=plan.tuning_seeds, tail=plan.tail, workers=workers)
    table = _Table(plan, ready, seeds, options, Path(out) / "unseen" if out is not None else None, progress)
    others = chosen(entrants)
    rows, single = table.rows(others)
    horizons = table.horizons([entrant for entrant in others if entrant.kind == RULE], data_dir)
    verdict: tuple[Verdict, ...] = verdicts(rows, horizons)
    result = UnseenResult(rows, horizons, verdict, single, seeds, time.monotonic() - begin, measured_on())
    if out is not None:
        save(result, Path(out), "unseen")
        losses, own = result.profile()
        write_text(Path(out) / "reproduce_unseen_profile.svg", standalone(plot(losses, own, "profile")))
    return result


@dataclass(frozen=True)
class _Table:
    plan: UnseenPlan
    tasks: list[Task]
    seeds: int
    options: EvaluationOptions
    out: Path | None
    progress: Progress | None

    def rows(self, others: Sequence[Entrant]) -> tuple[tuple[UnseenRow, ...], float]:
        """A row a task and entrant, and the best single rate of AdamW-cosine."""
        first = reference(self.plan.rates)
        found = {entry.task: [entry] for entry in self.run([first])}
        check_reference([entry for entries in found.values() for entry in entries])
        lr = best_single_rate([entries[0].tuning for entries in found.values() if entries[0].tuning])
        entrants = [first, at_single_rate(lr), *others]
        for entry in self.run(entrants[1:]):
            found[entry.task].append(entry)
        rows = [
            self.row(task, entrant, entry, found[task.name])
            for task in self.tasks
            for entrant, entry in zip(entrants, found[task.name], strict=True)
        ]
        return tuple(rows), lr

    def run(self, entrants: Sequence[Entrant]) -> tuple[Entry, ...]:
        return evaluate(
            {entrant.name: entrant.subject for entrant in entrants},
            self.tasks,
            seeds=self.seeds,
            baselines=(),
            config=self.options,
            out=self.out,
            progress=self.progress,
        ).entries

    def row(self, task: Task, entrant: Entrant, entry: Entry, field: Sequence[Entry]) -> UnseenRow:
        tuned, single = field[0], field[1]
        target = smoothed_end(tuned.curve)
        crossed = None if target is None else first_reached(entry.curve, target)
        to_targets = {}
        if entrant.kind in (RULE, THREE):
            for against in (tuned, single):
                to_targets[against.name] = self.to_target(task, entrant, entry, against)
        return UnseenRow(
            task=entry.task,
            steps=entry.steps,
            entrant=entrant.name,
            label=entrant.label,
            kind=entrant.kind,
            lr=entry.lr,
            schedule=entry.schedule,
            trials=entry.trials,
            loss=entry.final_loss,
            test=entry.test,
            on_curve=None if crossed is None else entry.steps / crossed,
            to_targets=to_targets,
        )

    def to_target(self, task: Task, entrant: Entrant, entry: Entry, against: Entry) -> StepsToTarget | None:
        """None where the reference has no finite loss to get to."""
        if against.final_loss.mean is None or against.final_loss.diverged:
            return None
        subject = entrant.subject
        if isinstance(subject, Baseline):
            assert entry.lr is not None
            subject = replace(subject, lrs=(entry.lr,), schedules=(entry.schedule,))
        return steps_to_target(
            subject,
            task,
            against.final_loss.mean,
            fractions=self.plan.fractions,
            slower=self.plan.fractions,
            seeds=self.seeds,
            config=self.options,
            out=self.out,
            progress=self.progress,
        )

    def horizons(self, rules: Sequence[Entrant], data_dir: str | Path | None) -> tuple[HorizonRow, ...]:
        """AdamW-cosine, tuned at each horizon, and the rules as they are."""
        name, chosen_options = self.plan.horizon_task
        entrants = [reference(self.plan.rates), *rules]
        rows: list[HorizonRow] = []
        for steps in self.plan.horizons:
            task = tasks.get(name, data_dir=data_dir, **{**chosen_options, "horizon": steps})
            here = replace(self, tasks=[task], options=replace(self.options, tail=self.plan.horizon_tail))
            entries = here.run(entrants)
            check_reference(entries[:1])
            rows += [
                HorizonRow(task.name, steps, entrant.name, entrant.label, entry.lr, entry.trials, entry.final_loss)
                for entrant, entry in zip(entrants, entries, strict=True)
            ]
        return tuple(rows)


def best_single_rate(tunings: Sequence[Tuning]) -> float:
    """The learning rate of the smallest geometric mean, over tasks, of tuning loss over the task's best tuning loss.

    A diverged run counts as `CAP` times the best. Rates that were not tried on every task do not take part.
    """
    shared = sorted(set.intersection(*(set(tuning.lrs) for tuning in tunings)))

    def mean(lr: float) -> float:
        return float(geometric_mean(np.array([_over_best(tuning, lr) for tuning in tunings])))

    return min(shared, key=mean)


def _over_best(tuning: Tuning, lr: float) -> float:
    losses = dict(zip(tuning.lrs, zip(tuning.losses, tuning.diverged, strict=True), strict=True))
    loss, diverged = losses[lr]
    best = losses[tuning.best][0]
    if loss is None or best is None or diverged:
        return CAP
    return min(CAP, loss / best)


def check_reference(entries: Sequence[Entry]) -> None:
    """Raise DivergenceError where AdamW-cosine did not finish: there is nothing to compare with."""
    for entry in entries:
        loss = entry.final_loss
        if loss.diverged:
            raise DivergenceError(
                f"the reference, {entry.label}, diverged on {entry.task} after {entry.steps} steps with "
                f"{loss.diverged} of {loss.count} seeds at the learning rate {entry.lr:g}, the best of its tuning: "
                "there is no loss to compare with; tune it on more seeds, or leave that task out"
            )


__all__ = ["QUICK", "REFERENCE", "SINGLE", "UnseenPlan", "best_single_rate", "check_reference", "unseen"]
