"""What an export target is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from closedform.rules import Rule


@dataclass(frozen=True)
class Exporter:
    """One target.

    Attributes:
        name: Name of the target.
        suffix: Suffix of its files, with the dot.
        needs: What the exported file needs in order to be used.
        summary: What the file holds, in a few words.
        write: Writes a rule as the text of a file.
    """

    name: str
    suffix: str
    needs: str
    summary: str
    write: Callable[[Rule], str]
