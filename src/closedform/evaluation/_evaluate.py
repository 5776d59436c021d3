"""`evaluate`: optimizers x tasks x seeds, against fairly tuned hand-designed optimizers.

What makes it fair:

- A baseline's learning rate, and its schedule where several are given, are tuned for each task by the very quantity
  that is reported, on other seeds; the number of trials that each contender had is told.
- What was learned (networks, distilled and tuned rules) runs at its own learning rate and is not tuned here.
- All are judged on the task's ``eval`` half of the data, which meta-training has not seen.
- At one seed all start from the same parameters and see the same batches, so that differences can be taken seed by
  seed. The best baseline is picked by the reported numbers themselves, which favours the baselines.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeAlias

import torch

from closedform._options import check_count, check_seed, check_share, with_options
from closedform._progress import Progress
from closedform._version import __version__
from closedform.errors import OptionError
from closedform.evaluation._baselines import DEFAULT_BASELINES, Baseline, check_schedules
from closedform.evaluation._contenders import CONSTANT, Optimizer, contenders
from closedform.evaluation._entries import Difference, EvaluationEntry, Protocol, best_baseline
from closedform.evaluation._episode import REPORT, TUNE, Record, Spec, curve_steps
from closedform.evaluation._evaluation import Evaluation
from closedform.evaluation._runs import Executor, Field, RunStore, default_workers
from closedform.evaluation._statistics import (
    CONFIDENCE,
    RESAMPLES,
    Summary,
    paired_difference,
    summarize,
    summarize_curves,
)
from closedform.evaluation._tuning import Search, Setting, Tuning, best_of, tune
from closedform.tasks import Task, as_tasks


@dataclass(frozen=True)
class EvaluationOptions:
    """What is seldom changed about an evaluation.

    Attributes:
        first_seed: First reporting seed.
        tuning_seeds: Seeds a learning rate is tuned on; never the reporting ones.
        extensions: How often a grid may be extended by a decade past its edge.
        tail: The final loss is the mean minibatch loss of the last ``tail`` steps.
        points: Points that a loss curve is reduced to.
        confidence: Coverage of the intervals.
        resamples: Bootstrap resamples.
        workers: Processes; None is one a core, at most 8. The numbers do not depend on it, times do.
        threads: Torch threads a process.
        resume: Use runs that ``out`` already holds.
        schedules: Schedules of the learning rate that baselines given by name are tuned over (`SCHEDULES`).
    """

    first_seed: int = 0
    tuning_seeds: int = 3
    extensions: int = 4
    tail: int = 20
    points: int = 100
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    workers: int | None = None
    threads: int = 1
    resume: bool = True
    schedules: tuple[str, ...] = (CONSTANT,)

    def __post_init__(self) -> None:
        for name in ("tuning_seeds", "tail", "points", "resamples", "threads"):
            check_count(name, getattr(self, name))
        if self.workers is not None:
            check_count("workers", self.workers)
        check_seed("first_seed", self.first_seed)
        check_count("extensions", self.extensions, 0)
        check_share("confidence", self.confidence)
        check_schedules(self.schedules)


def evaluation_options(config: EvaluationOptions | None, options: Mapping[str, Any]) -> EvaluationOptions:
    """All options: those of ``config``, or of ``options`` as it was called once, replaced by those given by name."""
    given = dict(options)
    former: EvaluationOptions | None = given.pop("options", None)
    return with_options(config or former or EvaluationOptions(), given, "option of evaluate")


def evaluate(
    optimizers: Mapping[str, Optimizer],
    tasks: Sequence[Task | str],
    *,
    steps: int | None = None,
    seeds: int = 10,
    baselines: Iterable[str] = DEFAULT_BASELINES,
    config: EvaluationOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Compare optimizers on tasks, over seeds.

    Args:
        optimizers: Name -> rule, learned optimizer, or `Baseline`. A text is a baseline's name ("adam": tuned), another
            library rule, a rule file, or a learned optimizer's folder or file.
        tasks: Tasks or their names.
        steps: Length of an episode; each task's own horizon if None.
        seeds: Number of reporting seeds.
        baselines: Names in `BASELINES` to compare with; their learning rates are tuned.
        config: The rest.
        out: Folder for ``runs.jsonl`` (a line a finished run: an interrupted evaluation resumes from it) and
            ``evaluation.json``.
        progress: Called after every run with runs done, runs known to be needed so far, and what was run.
        options: Fields of `EvaluationOptions` by name, in place of ``config``'s.

    Raises:
        UnknownNameError, RuleError, CheckpointError: an optimizer or task cannot be loaded.
        OptionError: an option makes no sense.
        OutputError: ``out`` cannot be written.

    Example:
        >>> from closedform import tasks
        >>> found = evaluate({}, [tasks.get("quadratic")], steps=30, seeds=2, baselines=["sgd"], workers=1)
        >>> found.best_baseline("quadratic").label
        'SGD'
    """
    begin = time.perf_counter()
    if not isinstance(optimizers, Mapping):
        raise OptionError('optimizers are given by name: evaluate({"mine": rule}, ...)')
    chosen = evaluation_options(config, options)
    check_count("seeds", seeds)
    if steps is not None:
        check_count("steps", steps)
    field = Field(contenders(optimizers, baselines, chosen.schedules), _tasks(tasks))
    store = RunStore(Path(out) / "runs.jsonl" if out else None, resume=chosen.resume)
    workers = chosen.workers or default_workers(field.tasks)
    executor = Executor(field, store, workers, chosen.threads, progress)
    entries = _Comparison(field, executor, chosen, steps, seeds).entries()
    protocol = Protocol(seeds, chosen.first_seed, chosen.tuning_seeds, chosen.tail, chosen.confidence, chosen.resamples)
    evaluation = Evaluation(entries, protocol, time.perf_counter() - begin, _versions())
    if out:
        evaluation.save(Path(out) / "evaluation.json")
    return evaluation


class Pair(NamedTuple):
    """A contender on a task, by their positions in the field."""

    contender: int
    task: int


Trial: TypeAlias = tuple[Pair, Setting]


@dataclass(frozen=True)
class _Comparison:
    field: Field
    executor: Executor
    options: EvaluationOptions
    length: int | None
    seeds: int

    def entries(self) -> tuple[EvaluationEntry, ...]:
        """Every contender on every task, task by task."""
        tunings = self.tune()
        chosen = {pair: Setting(found.best, found.schedule) for pair, found in tunings.items()}
        tasks, contenders = range(len(self.field.tasks)), range(len(self.field.contenders))
        pairs = [Pair(contender, task) for task in tasks for contender in contenders]
        trials = {pair: (pair, chosen.get(pair, Setting())) for pair in pairs}
        records = self.run(list(trials.values()), REPORT)
        entries: list[EvaluationEntry] = []
        for task in tasks:
            here = [self.entry(pair, records[trials[pair]], tunings.get(pair)) for pair in pairs if pair.task == task]
            best = best_baseline(here)
            entries += [replace(entry, difference=self.difference(entry, best)) for entry in here]
        return tuple(entries)

    def tune(self) -> dict[Pair, Tuning]:
        """Tune every baseline that has more than one setting to try, on every task."""
        found = {
            Pair(index, task): self.searches(contender.baseline)
            for index, contender in enumerate(self.field.contenders)
            for task in range(len(self.field.tasks))
        }
        tuned = {pair: searches for pair, searches in found.items() if searches}

        tune(tuned, partial(self.run, stream=TUNE))
        seeds = self.options.tuning_seeds
        return {pair: best_of(searches, seeds, self.steps(pair.task)) for pair, searches in tuned.items()}

    def run(self, trials: Sequence[Trial], stream: str) -> dict[Trial, list[Record]]:
        """Run trials on every seed of a stream, all at once, so that they share the processes; a record a seed."""
        first = self.options.first_seed
        seeds = range(first, first + self.seeds) if stream == REPORT else range(self.options.tuning_seeds)
        specs = [self.spec(pair, setting, stream, seed) for pair, setting in trials for seed in seeds]
        records = iter(self.executor.run(specs))
        return {trial: [next(records) for _ in seeds] for trial in trials}

    def searches(self, baseline: Baseline | None) -> list[Search]:
        """One a schedule; none where there is nothing to choose from."""
        if baseline is None or not baseline.tuned:
            return []
        extensions = self.options.extensions if baseline.extensions is None else baseline.extensions
        return [Search(baseline.lrs, extensions, schedule) for schedule in baseline.schedules]

    def steps(self, task: int) -> int:
        return self.length or self.field.tasks[task].horizon

    def spec(self, pair: Pair, setting: Setting, stream: str, seed: int) -> Spec:
        lr, schedule = setting
        return Spec(*pair, lr, stream, seed, self.steps(pair.task), self.options.tail, self.options.points, schedule)

    def entry(self, pair: Pair, records: Sequence[Record], tuning: Tuning | None) -> EvaluationEntry:
        contender, task = self.field.contenders[pair.contender], self.field.tasks[pair.task]
        names = dict.fromkeys(name for record in records for name in record.test)
        seconds = [record.step_seconds for record in records if record.step_seconds is not None]
        return EvaluationEntry(
            task=task.name,
            name=contender.name,
            label=contender.label,
            kind=contender.kind,
            lr=tuning.best if tuning else contender.lr,
            steps=self.steps(pair.task),
            final_loss=self.summary(record.final_loss for record in records),
            full_loss=self.summary(record.full_loss for record in records),
            test={name: self.summary(record.test.get(name) for record in records) for name in names},
            curve=summarize_curves(
                curve_steps(self.steps(pair.task), self.options.points),
                [record.curve for record in records],
                confidence=self.options.confidence,
            ),
            difference=None,
            step_seconds=median(seconds) if seconds else None,
            state_cost=contender.state_cost,
            complexity=contender.complexity,
            tuning=tuning,
            fingerprint=contender.fingerprint,
            schedule=tuning.schedule if tuning else contender.schedule,
        )

    def summary(self, values: Iterable[float | None]) -> Summary:
        return summarize(values, confidence=self.options.confidence, resamples=self.options.resamples)

    def difference(self, entry: EvaluationEntry, best: EvaluationEntry | None) -> Difference | None:
        if best is None or entry.name == best.name:
            return None
        loss = paired_difference(
            entry.final_loss.values,
            best.final_loss.values,
            confidence=self.options.confidence,
            resamples=self.options.resamples,
        )
        ours, theirs = entry.final_loss.mean, best.final_loss.mean
        relative = (ours - theirs) / abs(theirs) if ours is not None and theirs else None
        return Difference(best.name, loss, relative)


def _tasks(given: Sequence[Task | str]) -> tuple[Task, ...]:
    found = tuple(as_tasks(given))
    names = [task.name for task in found]
    for task in found:
        task.check_pure()
    if not found:
        raise OptionError("nothing to evaluate on: give at least one task")
    if len(set(names)) < len(names):
        raise OptionError(f"two tasks have the same name ({', '.join(names)}); evaluate them one after the other")
    return found


def _versions() -> dict[str, str]:
    return {"closedform": __version__, "torch": torch.__version__, "python": platform.python_version()}
