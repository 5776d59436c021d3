"""What an evaluation found, as data: tables, plots and reports are made from it, and it is its own results file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedform._files import read_json, write_json
from closedform._names import lookup
from closedform.errors import CheckpointError
from closedform.evaluation._statistics import Curve, Summary
from closedform.evaluation._tuning import Tuning

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = "closedform.evaluation/1"


@dataclass(frozen=True)
class Difference:
    """An optimizer against the best tuned baseline of its task.

    Attributes:
        baseline: The baseline's name.
        loss: Final loss minus the baseline's, seed by seed; negative is better.
        relative: Difference of the mean final losses as a share of the baseline's; None if either has no mean.
    """

    baseline: str
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

    task: str
    name: str
    label: str
    kind: str
    lr: float | None
    steps: int
    final_loss: Summary
    full_loss: Summary
    test: Mapping[str, Summary]
    curve: Curve
    difference: Difference | None
    step_seconds: float | None
    state_cost: float
    complexity: int | None
    tuning: Tuning | None
    fingerprint: str
    schedule: str = "constant"

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

    seeds: int
    first_seed: int
    tuning_seeds: int
    tail: int
    confidence: float
    resamples: int


@dataclass(frozen=True)
class Evaluation:
    """Optimizers x tasks x seeds.

    Attributes:
        entries: One a task and optimizer; tasks and optimizers in the order they were given.
        protocol: How the numbers were made.
        seconds: Wall-clock time of the evaluation.
        versions: Versions of what ran.
    """

    entries: tuple[Entry, ...]
    protocol: Protocol
    seconds: float
    versions: Mapping[str, str]

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
            return _evaluation(json.loads(text))
        except (ValueError, RecursionError) as error:
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
        raise CheckpointError(f"not evaluation results of this version: format {found!r}, expected {FORMAT!r}")
    try:
        entries = tuple(_entry(row) for row in document["entries"])
        return Evaluation(entries, Protocol(**document["protocol"]), document["seconds"], document["versions"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"evaluation results are damaged: {error}") from error


def _entry(row: dict[str, Any]) -> Entry:
    difference, tuning = row["difference"], row["tuning"]
    nested = {
        "final_loss": _summary(row["final_loss"]),
        "full_loss": _summary(row["full_loss"]),
        "test": {name: _summary(value) for name, value in row["test"].items()},
        "curve": Curve(**_tuples(row["curve"])),
        "difference": difference and Difference(**{**difference, "loss": _summary(difference["loss"])}),
        "tuning": tuning and _tuning(tuning),
    }
    return Entry(**{**row, **nested})


def _tuning(row: dict[str, Any]) -> Tuning:
    return Tuning(**{**_tuples(row), "others": tuple(_tuning(other) for other in row.get("others", ()))})


def _summary(row: dict[str, Any]) -> Summary:
    return Summary(**_tuples(row))


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
