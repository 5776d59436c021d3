"""Progress of long work: one bar on standard error, silent where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from closedform.cli._app import STDERR
from closedform.cli._sparkline import sparkline

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(bar_width=24),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[text]}"),
    TextColumn("{task.fields[curve]}"),
)
CURVE = 24
"""Characters of the curve behind a bar."""


class Bar:
    """A progress bar whose total may grow, with a line of text behind it, and a curve of what is recorded."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._course: list[float] = []

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show ``done`` of ``total``, and the text's beginning."""
        self._progress.update(self._task, completed=done, total=total, text=shortened(text))

    def record(self, record: Mapping[str, Any]) -> None:
        """Add a record of training to the curve: the meta-loss, evolution's score, or a race's loss."""
        value = record.get("meta_loss", record.get("score", record.get("loss")))
        self._course.append(float("nan") if value is None else float(value))
        self._progress.update(self._task, curve=sparkline(self._course, CURVE))

    def stop(self) -> None:
        """Stop the bar's clock."""
        self._progress.stop_task(self._task)


def add_bar(progress: Progress, title: str) -> Bar:
    """A new bar, at the bottom."""
    return Bar(progress, progress.add_task(title, total=None, text="", curve=""))


def shortened(text: str, most: int = 80) -> str:
    """A text's beginning, for a line of progress."""
    return escape(text if len(text) <= most else f"{text[: most - 3]}...")


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar on standard error while the block runs; nothing is drawn where standard error is not a terminal."""
    with Progress(*COLUMNS, console=STDERR, disable=STDERR.quiet or not STDERR.is_terminal) as progress:
        yield add_bar(progress, title)
