"""What a distillation is asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from closedform._names import unknown_name_message
from closedform._options import check_count, check_number, check_share
from closedform.errors import OptionError, UnknownNameError
from closedform.lang import OPERATORS

AUTO, NONE, ODD, SCALE_FREE, BOTH = "auto", "none", "odd", "scale-free", "both"
SYMMETRIES = (AUTO, NONE, ODD, SCALE_FREE, BOTH)
"""What may be asked for: what is measured, nothing, or this and that whatever is measured."""
DEFAULT_OPERATORS = ("add", "sub", "mul", "div", "tanh", "exp", "square", "ssqrt", "abs", "min", "max")
DEFAULT_DECAYS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
MOST_SEED = 2**32 - 1
"""The largest seed that every engine takes."""
_COUNTS = {
    "max_complexity": (1, 10_000),
    "generations": (0, 10**9),
    "population": (10, 10**6),
    "rows": (20, 10**9),
    "threads": (1, 1024),
    "seed": (0, MOST_SEED),
    "gates": (0, 2),
    "restarts": (1, 10_000),
    "split_seed": (0, MOST_SEED),
    "max_state_cost": (0, 10**9),
}
_NEEDED = frozenset(_COUNTS) - {"split_seed", "max_state_cost"}


@dataclass(frozen=True)
class DistillConfig:
    """How to distil.

    Attributes:
        time_limit: Seconds; a guard. The search is bounded by ``generations``, so that one seed gives one hall of fame
            wherever the limit is not reached. 0: the quick stages only; infinite: none.
        seed: Drives the search, and chooses the held-out episodes.
        max_complexity: Nodes that an equation may have.
        max_state_cost: Buffers a parameter that a rule may keep; None: any.
        generations: Generations of genetic programming.
        population: Its individuals.
        rows: Rows that it sees; all rows fit the constants afterwards.
        operators: Names of the language's operators that it may use.
        decays: Decays of the moving averages offered as further states; their best values are fitted. Empty: none, and
            no search for recurrences either: the equations are over the columns alone, as in the paper.
        gates: States with gates that are fitted, at most: 0 to 2. They cost minutes and many nodes.
        test_fraction: Share of the episodes that is held out.
        nonfinite_limit: Share of rows with NaN or infinity up to which they are left out; past it they are refused.
        threads: Threads of the search; the result does not depend on them.
        restarts: Searches, with the seeds ``seed``, ``seed + 1``, ...; their halls are merged into one.
        split_seed: Chooses the held-out episodes; None: ``seed`` does.
        symmetries: What rules must keep to: ``"odd"`` (updates change sign with gradient and parameter),
            ``"scale-free"`` (they do not depend on the gradient's unit), ``"both"``, ``"none"``, or ``"auto"``: what
            the recorded optimizer is found to keep to. Tables of data have none.

    Raises:
        OptionError: a value makes no sense.
        UnknownNameError: an operator is not one of the language.
    """

    time_limit: float = 60.0
    seed: int = 0
    max_complexity: int = 40
    max_state_cost: int | None = None
    generations: int = 40
    population: int = 1000
    rows: int = 1500
    operators: tuple[str, ...] = DEFAULT_OPERATORS
    decays: tuple[float, ...] = DEFAULT_DECAYS
    gates: int = 0
    test_fraction: float = 0.25
    nonfinite_limit: float = 0.05
    threads: int = min(2, os.cpu_count() or 1)
    restarts: int = 1
    split_seed: int | None = None
    symmetries: str = AUTO

    def __post_init__(self) -> None:
        if self.time_limit != math.inf:
            check_number("time_limit", self.time_limit, least=0)
        for name, (least, most) in _COUNTS.items():
            if getattr(self, name) is not None or name in _NEEDED:
                check_count(name, getattr(self, name), least, most)
        check_share("test_fraction", self.test_fraction)
        check_share("nonfinite_limit", self.nonfinite_limit, zero=True)
        for name in ("decays", "operators"):
            if isinstance(getattr(self, name), str) or not isinstance(getattr(self, name), Sequence):
                raise OptionError(f"{name} must be a tuple, not {getattr(self, name)!r}")
        for decay in self.decays:
            check_share("each of decays", decay)
        if self.symmetries not in SYMMETRIES:
            raise OptionError(f"symmetries must be one of {', '.join(SYMMETRIES)}, not {self.symmetries!r}")
        if not self.operators:
            raise OptionError("operators names none: equations need at least one, such as add and mul")
        for name in self.operators:
            if name not in OPERATORS:
                raise UnknownNameError(unknown_name_message("operator", str(name), OPERATORS))

    @property
    def holds_out_by(self) -> int:
        """The seed that chooses the held-out episodes."""
        return self.seed if self.split_seed is None else self.split_seed
