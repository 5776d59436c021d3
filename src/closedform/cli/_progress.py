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

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(bar_width=24),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[text]}"),
)


class Bar:
    """A progress bar whose total may grow, with a line of text behind it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show ``done`` of ``total``."""
        self._progress.update(self._task, completed=done, total=total, text=text)

    def meta_step(self, total: int, record: Mapping[str, Any]) -> None:
        """Show a record of meta-training."""
        loss = record.get("validation", record.get("loss"))
        self(int(record["step"]), total, f"loss {loss:.4g}" if isinstance(loss, float) else "")


def shortened(equation: str, most: int = 60) -> str:
    """An equation's beginning, for a line of progress."""
    return escape(equation if len(equation) <= most else f"{equation[: most - 3]}...")


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar on standard error while the block runs; nothing is drawn where standard error is not a terminal."""
    with Progress(*COLUMNS, console=STDERR, disable=STDERR.quiet or not STDERR.is_terminal) as progress:
        yield Bar(progress, progress.add_task(title, total=None, text=""))
