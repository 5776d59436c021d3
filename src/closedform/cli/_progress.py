"""Progress of long work: one bar on standard error, silent where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        """Show ``done`` of ``total``, and the text's beginning."""
        self._progress.update(self._task, completed=done, total=total, text=shortened(text))


def shortened(text: str, most: int = 80) -> str:
    """A text's beginning, for a line of progress."""
    return escape(text if len(text) <= most else f"{text[: most - 3]}...")


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar on standard error while the block runs; nothing is drawn where standard error is not a terminal."""
    with Progress(*COLUMNS, console=STDERR, disable=STDERR.quiet or not STDERR.is_terminal) as progress:
        yield Bar(progress, progress.add_task(title, total=None, text=""))
