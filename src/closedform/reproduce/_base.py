"""What all reproductions share: the shape of their outcome, where it is written, and on what it was measured."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from closedform._files import write_text

if TYPE_CHECKING:
    from rich.table import Table


class Reproduction(Protocol):
    """The outcome of a reproduction: the paper's table beside ours."""

    def table(self) -> Table:
        """For printing with rich."""

    def to_markdown(self) -> str:
        """A document with how it was measured."""

    def to_json(self) -> str:
        """The numbers, for machines."""


def save(result: Reproduction, out: Path, name: str) -> None:
    """Write ``reproduce_NAME.md`` and ``.json`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"reproduce_{name}.md", result.to_markdown())
    write_text(out / f"reproduce_{name}.json", result.to_json())


def measured_on() -> str:
    """Date, machine and versions, in one line."""
    return (
        f"date {datetime.date.today().isoformat()}, {platform.machine()}, cores {os.cpu_count()}, "
        f"torch {torch.__version__}, python {platform.python_version()}"
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; bars inside cells are escaped."""
    lines = [list(header), ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
