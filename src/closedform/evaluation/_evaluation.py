"""What an evaluation found, as data: tables, plots and reports are made from it, and it is its own results file."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from closedform._document import Malformed, Many, Name, Seconds, parse_json, read, shown
from closedform._files import read_json, write_json
from closedform._names import lookup
from closedform.errors import CheckpointError
from closedform.evaluation._entries import EvaluationEntry, Label, Protocol, best_baseline
from closedform.evaluation._table import task_table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

FORMAT = "closedform.evaluation/1"
TEXT_WIDTH = 120
"""Characters of a line of tables as text."""


@dataclass(frozen=True)
class Evaluation:
    """Optimizers x tasks x seeds.

    Attributes:
        entries: One a task and optimizer; tasks and optimizers in the order they were given.
        protocol: How the numbers were made.
        seconds: Wall-clock time of the evaluation.
        versions: Versions of what ran.
    """

    entries: Annotated[tuple[EvaluationEntry, ...], Many(10_000)]
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

    def on(self, task: str) -> tuple[EvaluationEntry, ...]:
        """All optimizers on one task.

        Raises:
            UnknownNameError: the evaluation has no such task.
        """
        lookup("evaluated task", task, dict.fromkeys(self.tasks))
        return tuple(entry for entry in self.entries if entry.task == task)

    def get(self, task: str, name: str) -> EvaluationEntry:
        """One optimizer on one task.

        Raises:
            UnknownNameError: the evaluation has no such task or optimizer.
        """
        return lookup("evaluated optimizer", name, {entry.name: entry for entry in self.on(task)})

    def best_baseline(self, task: str) -> EvaluationEntry | None:
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

    def __str__(self) -> str:
        """The tables, as text."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=TEXT_WIDTH).print(self)
        return text.getvalue()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for task in self.tasks:
            yield task_table(self.on(task), self.protocol)


def _evaluation(document: Any) -> Evaluation:
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"not evaluation results of this version: format {shown(found)}, expected {FORMAT!r}")
    try:
        evaluation: Evaluation = read({key: value for key, value in document.items() if key != "format"}, Evaluation)
        return evaluation
    except Malformed as error:
        raise CheckpointError(f"evaluation results are damaged: {error}") from error
