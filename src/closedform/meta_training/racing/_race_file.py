"""``candidates.jsonl``: every candidate of a race that has ended, a line each, from which the race goes on.

The first line says what the race is; two races with the same first line compute the same. A kill may cut the last line
short, which is then left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from closedform._document import Count, Malformed, Many, Name, Seconds, Text, parse_json, read
from closedform._files import append_text, finite, read_lines, write_text
from closedform.errors import CheckpointError

FORMAT = "closedform.race/1"
CANDIDATES_FILE = "candidates.jsonl"
MAX_BYTES = 2**28

DONE, DIVERGED, FAILED, LOST = "done", "diverged", "failed", "lost"
"""How a candidate may end: with a loss; without a finite one; in an error of its own; with its worker."""

Place: TypeAlias = tuple[int, int, int]
"""Generation, rung and number of a candidate."""


@dataclass(frozen=True)
class Candidate:
    """A candidate that has ended, and how.

    Attributes:
        generation: Its generation from 0; of finals, how many generations were done.
        rung: Its rung from 0, the shortest; the number of rungs stands for the finals.
        number: Which of the generation's candidates; in the finals, which run.
        steps: The length of its run.
        constants: Name -> value, ``lr`` among them if it is tuned.
        state: ``"done"``; ``"diverged"``; ``"failed"``, in an error of its own; ``"lost"``, its worker died.
        loss: Mean minibatch loss of its last steps; None unless done.
        seconds: How long it took, there.
        why: Why there is no loss.
    """

    generation: Count
    rung: Count
    number: Count
    steps: Count
    constants: Annotated[Mapping[Name, float], Many(1000)]
    state: Literal["done", "diverged", "failed", "lost"]
    loss: float | None
    seconds: Seconds
    why: Annotated[str, Text(2000)] | None

    def __post_init__(self) -> None:
        if (self.state == DONE) != (self.loss is not None):
            raise ValueError("a candidate that is done has a loss, and no other has one")

    @property
    def place(self) -> Place:
        """Where it belongs."""
        return self.generation, self.rung, self.number


class CandidateLog:
    """The candidates so far, kept in memory and, given a path, appended to a file as they end.

    Args:
        path: The file; None keeps them in memory only.
        run: What the race is, a JSON object.
        resume: Use what the file holds; otherwise it starts empty.

    Raises:
        CheckpointError: the file is damaged, or of another race.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.found: dict[Place, Candidate] = {}
        if path is None:
            return
        head = json.dumps({"format": FORMAT, "run": finite(dict(run))}, sort_keys=True)
        lines, cut_short = _read(path) if resume and path.exists() else ([], False)
        if lines:
            _check_head(path, lines[0], json.loads(head)["run"])
            for candidate in map(_Line(path), range(2, len(lines) + 1), lines[1:]):
                self.found[candidate.place] = candidate
            self._forget_lost()
        if cut_short or not lines:
            write_text(path, "".join(line + "\n" for line in lines or [head]))

    def _forget_lost(self) -> None:
        """Those of the last rung run again: nothing was built on them yet."""
        last = max((place[:2] for place in self.found), default=None)
        lost = [place for place, one in self.found.items() if one.state == LOST and place[:2] == last]
        for place in lost:
            del self.found[place]

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate."""
        self.found[candidate.place] = candidate
        if self._path is not None:
            append_text(self._path, json.dumps(finite(asdict(candidate))) + "\n")


def read_race(path: str | Path) -> list[Candidate]:
    """The candidates of a race, in the order in which they ended.

    Args:
        path: Its ``candidates.jsonl``.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = Path(path)
    lines, _ = _read(path)
    _check_head(path, lines[0] if lines else "", None)
    return list(map(_Line(path), range(2, len(lines) + 1), lines[1:]))


@dataclass(frozen=True)
class _Line:
    path: Path

    def __call__(self, number: int, line: str) -> Candidate:
        try:
            candidate: Candidate = read(parse_json(line), Candidate)
        except Malformed as error:
            raise CheckpointError(f"{self.path}, line {number} is damaged: {error}; choose another --out") from None
        return candidate


def _read(path: Path) -> tuple[list[str], bool]:
    return read_lines(path, what="race", limit=MAX_BYTES)


def _check_head(path: Path, line: str, run: Mapping[str, Any] | None) -> None:
    try:
        head = parse_json(line)
    except Malformed as error:
        raise CheckpointError(f"{path}, line 1 is damaged: {error}; choose another --out") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT or not isinstance(head.get("run"), dict):
        raise CheckpointError(f"{path} is not a race of this version; choose another --out")
    for key in run or ():
        if head["run"].get(key) != (run or {})[key]:
            raise CheckpointError(f"{path} is of another race: its {key} differs; choose another --out")
