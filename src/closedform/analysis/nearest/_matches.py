"""What is said of a recording: the rules beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from closedform.rules import Rule

EXACT, CLOSE = 1e-6, 0.9
"""1 - R^2 below which a rule is exact; R^2 from which it is close."""


@dataclass(frozen=True)
class Addition:
    """What a rule lacks, if anything.

    Attributes:
        what: In words.
        r2: Held-out R^2 with it.
    """

    what: str
    r2: float


@dataclass(frozen=True)
class Match:
    """A known rule beside the recording.

    Attributes:
        name: The library's name.
        rule: With constants and learning rate refitted.
        r2: On held-out episodes.
        cosine: Between its updates and the recorded ones.
        magnitude: Root mean square of its updates over that of the recorded ones.
        complexity, state_cost: Nodes, and buffers a parameter.
        additions: What would explain more, one by one.
        apart: Where it differs although it agrees on the whole, in words; empty if nowhere.
    """

    name: str
    rule: Rule
    r2: float
    cosine: float
    magnitude: float
    complexity: int
    state_cost: int
    additions: tuple[Addition, ...] = ()
    apart: str = ""

    @property
    def exact(self) -> bool:
        """Whether it is the recorded optimizer, as far as can be seen: at all times, for nearly every parameter."""
        return 1 - self.r2 < EXACT and not self.apart


@dataclass(frozen=True)
class Nearest:
    """Known rules by how much of a recording they explain.

    Attributes:
        verdict: ``exact``, ``close``, ``unlike`` any, or ``none``: too little evidence.
        sentence: The same in words.
        matches: The refitted rules, best first; of those that cannot be told apart, the simplest.
        left_out: Rules that could not be tried, and why.
        cells: Recorded updates that were judged.
        seconds: Time taken.
    """

    verdict: str
    sentence: str
    matches: tuple[Match, ...]
    left_out: Mapping[str, str]
    cells: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [{**asdict(match), "rule": match.rule.to_dict()} for match in self.matches]
        return {**asdict(self), "matches": rows}
