"""What an evaluation found, as data: tables, plots and reports are made from it, and it is its own results file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from closedform._document import Count, Line, Malformed, Many, Name, Seconds, Within, parse_json, read, shown
from closedform._files import read_json, write_json
from closedform._names import lookup
from closedform.errors import CheckpointError
from closedform.evaluation._statistics import Curve, Summary
from closedform.evaluation._tuning import LearningRate, Tuning

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = "closedform.evaluation/1"
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
class Entry:
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


@dataclass(frozen=True)
class Evaluation:
    """Optimizers x tasks x seeds.

    Attributes:
        entries: One a task and optimizer; tasks and optimizers in the order they were given.
        protocol: How the numbers were made.
        seconds: Wall-clock time of the evaluation.
        versions: Versions of what ran.
    """

    entries: Annotated[tuple[Entry, ...], Many(10_000)]
    protocol: Protocol
    seconds: Seconds
    versions: Annotated[Mapping[Name, Label], Many(100)]

    def __post_init__(self) -> None:
        seeds = self.protocol.seeds
        for index, entry in enumerate(self.entries):
            count = entry.final_loss.count
            if count != seeds:
                raise ValueError(
                    f"entries[{index}] has {count} final losses, but there are {self.protocol.seeds} seeds"
                )
        pairs = [(entry.task, entry.name) for entry in self.entries]
        if len(set(pairs)) < len(pairs):
            raise ValueError("an optimizer is there twice on one task")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(entry.task for entry in self.entries))

    def on(self, task: str) -> tuple[Entry, ...]:
        """All optimizers on one task.

        Raises:
            UnknownNameError: the evaluation has no such task.
        """
        lookup("evaluated task", task, dict.fromkeys(self.tasks))
        return tuple(entry for entry in self.entries if entry.task == task)

    def get(self, task: str, name: str) -> Entry:
        """One optimizer on one task.

        Raises:
            UnknownNameError: the evaluation has no such task or optimizer.
        """
        return lookup("evaluated optimizer", name, {entry.name: entry for entry in self.on(task)})

    def best_baseline(self, task: str) -> Entry | None:
        """The tuned baseline of the smallest mean final loss; None if there is no baseline."""
        return best_baseline(self.on(task))

    def to_json(self) -> str:
        """The results file's text; `from_json` of it gives an equal evaluation."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the results file, atomically.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_json(Path(path), {"format": FORMAT, **dataclasses.asdict(self)})
        return Path(path)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read a results file's text.

        Raises:
            CheckpointError: it is not one, or of another format version.
        """
        try:
            return _evaluation(parse_json(text))
        except Malformed as error:
            raise CheckpointError(f"evaluation results are not valid JSON ({error}); they may be truncated") from error

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read a results file.

        Raises:
            CheckpointError: it is missing, damaged, or of another format version.
        """
        return _evaluation(read_json(Path(path), what="evaluation results"))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from closedform.evaluation._table import tables

        yield from tables(self)


def best_baseline(entries: Iterable[Entry]) -> Entry | None:
    """The tuned baseline of the smallest mean final loss, fewest divergences first; None if there is no baseline."""
    baselines = [entry for entry in entries if entry.kind == "baseline"]
    return min(baselines, key=lambda entry: entry.final_loss.rank, default=None)


def _evaluation(document: Any) -> Evaluation:
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"not evaluation results of this version: format {shown(found)}, expected {FORMAT!r}")
    try:
        evaluation: Evaluation = read({key: value for key, value in document.items() if key != "format"}, Evaluation)
        return evaluation
    except Malformed as error:
        raise CheckpointError(f"evaluation results are damaged: {error}") from error
