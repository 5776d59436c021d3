"""Which rule is handed over: validation against tuned, annealed baselines, on episodes that nothing was tuned on.

Every form of every candidate, tuned or not, trains the task from fresh seeds, at its own horizon and at a longer one,
on the half of the data that meta-training uses; the half that the report's numbers come from is not touched. Baselines
are tuned there as everywhere. A form's number on a task is the log of its mean final loss over that of the best
baseline, with a bootstrap interval over seeds. The form is taken whose interval ends lowest, on the task where it does
worst. So tuning that does not hold on fresh episodes is thrown away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from closedform._document import Malformed, Many, Name, Text, read
from closedform._files import read_json, write_json
from closedform._progress import Progress
from closedform.errors import CheckpointError
from closedform.evaluation import Evaluation, EvaluationOptions, evaluate
from closedform.pipeline._config import ChooseConfig
from closedform.pipeline._tuning import Tuned, with_reason
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
class Chosen:
    """``choice.json``: what is handed over and why, as a run's folder keeps it.

    Attributes:
        form: Which form of the equation is handed over.
        equation: The equation, as in the hall of fame.
        tuning: Where it was tuned, below the run's folder.
        beats: Whether it beat the best tuned baseline in validation.
        by, reason: How it was chosen, and why it was.
        log_ratio: Of every form of every candidate, the log of its loss over the best baseline's, and its interval.
    """

    form: Literal["distilled rule", "scheduled rule", "tuned rule"]
    equation: Annotated[str, Text(20_000, 1)]
    tuning: Name
    beats: bool
    by: Annotated[str, Text(1000)]
    reason: Annotated[str, Text(1000)]
    log_ratio: Annotated[Mapping[Name, Annotated[tuple[float | None, ...], Many(3)]], Many(1000)]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"tuning/\w+", self.tuning):  # no way out of the folder
            raise ValueError("tuning is no folder of this run")

    @classmethod
    def load(cls, path: Path) -> Chosen:
        """Read a choice.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            found: Chosen = read(read_json(path, what="choice"), cls)
            return found
        except Malformed as error:
            raise CheckpointError(f"choice {path} is damaged: {error}; add --overwrite to start again") from None

    def save(self, path: Path) -> None:
        """Write it."""
        write_json(path, asdict(self))


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
    progress: Progress | None = None,
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
        config=EvaluationOptions(
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
