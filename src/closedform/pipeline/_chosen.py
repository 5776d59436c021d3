"""``choice.json``: what is handed over and why, as a run's folder keeps it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from closedform._document import Malformed, Many, Name, Text, read
from closedform._files import read_json, write_json
from closedform.errors import CheckpointError


@dataclass(frozen=True)
class Chosen:
    """The choice in a run's folder.

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
