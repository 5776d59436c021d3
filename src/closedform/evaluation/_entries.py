"""One optimizer on one task, as data: what was measured, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from closedform._document import Count, Line, Many, Name, Seconds, Within
from closedform.evaluation._statistics import Curve, Summary
from closedform.evaluation._tuning import LearningRate, Tuning

Label: TypeAlias = Annotated[str, Line(1000, 1)]
"""A name that a person gave."""
Metrics: TypeAlias = Annotated[Mapping[Name, Summary], Many(100)]


@dataclass(frozen=True)
class Difference:
    """An optimizer against the best tuned baseline of its task.

    Attributes:
        baseline: The baseline's name.
        loss: Final loss minus the baseline's, seed by seed; negative is better.
        relative: Difference of the mean final losses as a share of the baseline's; None if either has no mean.
    """

    baseline: Label
    loss: Summary
    relative: float | None


@dataclass(frozen=True)
class EvaluationEntry:
    """One optimizer on one task.

    Attributes:
        task: The task's name.
        name, label, kind: The optimizer; kind is "baseline" (learning rate tuned), "rule" or "learned" (as they are).
        lr: Learning rate it ran at; None for a network.
        steps: Length of an episode.
        final_loss: Mean minibatch training loss of the last steps, over seeds.
        full_loss: Loss on all data that it trained on, at the end.
        test: Metrics on held-out data at the end, by name.
        curve: Training loss against step.
        difference: Against the best baseline; None if there is none, or if this is it.
        step_seconds: Median time of the optimizer's own part of a step, without the gradient.
        state_cost: Buffers a parameter.
        complexity: Nodes of the rule; None for a network.
        tuning: How the learning rate was found; None if it was not tuned.
        fingerprint: Hash of what the optimizer does.
        schedule: What multiplied the learning rate, a name in `SCHEDULES`.
    """

    task: Label
    name: Label
    label: Label
    kind: Literal["baseline", "rule", "learned"]
    lr: LearningRate | None
    steps: Count
    final_loss: Summary
    full_loss: Summary
    test: Metrics
    curve: Curve
    difference: Difference | None
    step_seconds: Seconds | None
    state_cost: Annotated[float, Within(0, 1e6)]
    complexity: Count | None
    tuning: Tuning | None
    fingerprint: Name
    schedule: Name = "constant"

    @property
    def trials(self) -> int:
        """Number of settings that were tried to tune it; 0 if it was not tuned."""
        return self.tuning.trials if self.tuning else 0


@dataclass(frozen=True)
class Protocol:
    """How the numbers were made.

    Attributes:
        seeds: Reporting seeds; each is one start and one sequence of batches, the same for all optimizers.
        first_seed: The first of them.
        tuning_seeds: Seeds that learning rates were tuned on; other ones than the reporting seeds.
        tail: The final loss is the mean minibatch loss of the last ``tail`` steps.
        confidence: Coverage of the intervals.
        resamples: Bootstrap resamples.
    """

    seeds: Count
    first_seed: Annotated[int, Within(-(2**63), 2**64)]
    tuning_seeds: Count
    tail: Count
    confidence: Annotated[float, Within(0, 1)]
    resamples: Count


def best_baseline(entries: Iterable[EvaluationEntry]) -> EvaluationEntry | None:
    """The tuned baseline of the smallest mean final loss, fewest divergences first; None if there is no baseline."""
    baselines = [entry for entry in entries if entry.kind == "baseline"]
    return min(baselines, key=lambda entry: entry.final_loss.rank, default=None)
