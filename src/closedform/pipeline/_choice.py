"""Which rule is handed over: validation against tuned, annealed baselines, on episodes that nothing was tuned on.

Every form of every candidate, tuned or not, trains the task from fresh seeds, at its own horizon and at a longer one,
on the half of the data that meta-training uses; the half that the report's numbers come from is not touched. Baselines
are tuned there as everywhere. A form's number on a task is the log of its mean final loss over that of the best
baseline, with a bootstrap interval over seeds. The form is taken whose interval ends lowest, on the task where it does
worst. So tuning that does not hold on fresh episodes is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedform.evaluation import Evaluation, EvaluationOptions, evaluate
from closedform.pipeline._chosen import Chosen
from closedform.pipeline._config import ChooseConfig
from closedform.pipeline._selection import Tuned, with_reason
from closedform.rules import Rule
from closedform.tasks import Batch, Task
from closedform.tasks.distribution import WrappedTask

FIRST_SEED = 1000
"""The first validation seed: none is a reporting seed."""
RESAMPLES, CONFIDENCE = 2000, 0.95
LEAST = 1e-12
"""Losses below, and below 0, count as this."""


class Validated(WrappedTask):
    """A task whose optimizees train on the half of the data that meta-training uses, also when they are compared.

    Args:
        task: The task inside.
        times: Multiplies its horizon.
    """

    def __init__(self, task: Task, times: int = 1) -> None:
        super().__init__(task, times * task.horizon)
        self.name = f"{task.name}-validation-{self.horizon}"
        self.options = getattr(task, "options", None)

    def batch(self, split: str, generator: Any) -> Batch:
        return super().batch("train" if split == "eval" else split, generator)

    def full(self, split: str) -> Batch:
        return super().full("train" if split == "eval" else split)


@dataclass(frozen=True)
class Score:
    """Log of a mean final loss over the best baseline's, on the task where that is worst.

    Attributes:
        task: That task.
        mean, low, high: The number and its interval; infinite if a run diverged.
    """

    task: str
    mean: float
    low: float
    high: float

    @property
    def beats(self) -> bool:
        """Whether it is below the best tuned baseline beyond the interval, on every task."""
        return self.high < 0


@dataclass(frozen=True)
class Choice:
    """What is handed over.

    Attributes:
        tuned: The candidate.
        form: Which of its forms.
        score: Its validation.
        scores: Of all forms of all candidates.
    """

    tuned: Tuned
    form: str
    score: Score
    scores: Mapping[str, Score]

    @property
    def reason(self) -> dict[str, Any]:
        """What the rule's provenance says about the choice."""
        against = "beats" if self.score.beats else "does not beat"
        return {
            "by": "validation on fresh episodes, beside tuned annealed baselines",
            "reason": f"of {len(self.scores)} forms this one does best where it does worst; it {against} the baselines",
            "form": self.form,
            "log_ratio": {name: [_finite(x) for x in (s.mean, s.low, s.high)] for name, s in self.scores.items()},
        }

    def kept(self, folder: Path) -> Chosen:
        """The choice as the run's folder keeps it."""
        return Chosen(
            equation=self.tuned.candidate.entry.equation,
            tuning=self.tuned.folder.relative_to(folder).as_posix(),
            beats=self.score.beats,
            **self.reason,
        )

    @property
    def rules(self) -> dict[str, Rule]:
        """The candidate's forms, those handed over with the reason in their provenance."""
        forms = self.tuned.forms
        return {name: with_reason(rule, self.reason) if name == self.form else rule for name, rule in forms.items()}


def choose(
    tuned: Sequence[Tuned],
    task: Task,
    config: ChooseConfig,
    out: Path,
    *,
    resume: bool,
    progress: Callable[[int, int, str], None] | None = None,
) -> Choice:
    """Choose what is handed over.

    Args:
        tuned: The candidates.
        task: The task.
        config: Baselines, seeds, and the longer horizon.
        out: Folder for the runs.
        resume: Use runs that are there.
        progress: Called after every run.
    """
    places = {f"{name} {index + 1}": (one, name) for index, one in enumerate(tuned) for name in one.forms}
    evaluation = evaluate(
        {label: one.forms[name] for label, (one, name) in places.items()},
        [Validated(task), Validated(task, config.longer)],
        seeds=config.seeds,
        baselines=config.baselines,
        options=EvaluationOptions(
            first_seed=FIRST_SEED, tuning_seeds=config.tuning_seeds, schedules=config.schedules, resume=resume
        ),
        out=out,
        progress=progress,
    )
    scores = {label: score(evaluation, label) for label in places}
    best = min(scores, key=lambda label: (scores[label].high, scores[label].mean))
    return Choice(*places[best], scores[best], scores)


def score(evaluation: Evaluation, name: str) -> Score:
    """An optimizer's score in a validation."""
    return max((_on(evaluation, task, name) for task in evaluation.tasks), key=lambda found: (found.high, found.mean))


def _on(evaluation: Evaluation, task: str, name: str) -> Score:
    best = evaluation.best_baseline(task)
    ours = _losses(evaluation.get(task, name).final_loss.values)
    theirs = None if best is None else _losses(best.final_loss.values)
    if ours is None:
        return Score(task, math.inf, math.inf, math.inf)
    if theirs is None:  # nothing to compare with: whatever ends is better
        return Score(task, -math.inf, -math.inf, -math.inf)
    draws = np.random.default_rng(0).integers(len(ours), size=(RESAMPLES, len(ours)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.log(ours[draws].mean(1) / theirs[draws].mean(1)), (tail, 1 - tail))
    return Score(task, math.log(ours.mean() / theirs.mean()), float(low), float(high))


def _losses(values: Sequence[float | None]) -> NDArray[np.float64] | None:
    kept = [max(value, LEAST) for value in values if value is not None]
    return np.array(kept) if len(kept) == len(values) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
