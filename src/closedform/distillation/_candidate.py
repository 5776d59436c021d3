"""Candidates: equations with the further states that they need, and their constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from closedform.lang import Apply, Expr, Number, Symbol, apply, complexity, lags, names


@dataclass(frozen=True)
class Average:
    """A state that a rule may keep: the moving average ``s <- decay*s + (1 - decay)*f(signal)``.

    Attributes:
        signal: Name of a signal of the recording.
        decay: Between 0 and 1.
        transform: f, an operator of one argument; None for the signal itself.
    """

    signal: str
    decay: float
    transform: str | None = None

    @property
    def stem(self) -> str:
        """What it is an average of, as a name: ``avg_m_tilde``, ``avg_cube_m_tilde``."""
        return f"avg_{self.transform}_{self.signal}" if self.transform else f"avg_{self.signal}"

    @property
    def label(self) -> str:
        """A name for it among others of other decays: ``avg_m_tilde_95``."""
        return f"{self.stem}_{f'{self.decay:g}'.partition('.')[2]}"


@dataclass(frozen=True)
class Candidate:
    """An equation that a stage proposes.

    Attributes:
        expr: Over signals, their lags and averages; constants as numbers; the update in its own units.
        averages: What each average's name in ``expr`` stands for.
        recurrences: Further states, and named values that they share, in order: name -> value over the signals now, the
            states' past as ``prev(s)``, and earlier names that read no past.
        stage: Which stage made it.
    """

    expr: Expr
    averages: Mapping[str, Average] = field(default_factory=dict)
    recurrences: Mapping[str, Expr] = field(default_factory=dict)
    stage: str = ""

    def __hash__(self) -> int:
        return hash(self.expr)

    @property
    def live(self) -> Candidate:
        """The same without averages and states that the equation does not need."""
        needed = names(self.expr)
        while True:
            read = (names(expr) | set(lags(expr)) for name, expr in self.recurrences.items() if name in needed)
            further = needed.union(*read)
            if further == needed:
                break
            needed = further
        averages = {name: average for name, average in self.averages.items() if name in needed}
        recurrences = {name: expr for name, expr in self.recurrences.items() if name in needed}
        return Candidate(self.expr, averages, recurrences, self.stage)

    @property
    def states(self) -> tuple[str, ...]:
        """The recurrences that remember something; the others are named values."""
        return tuple(name for name, expr in self.recurrences.items() if lags(expr).keys() & self.recurrences.keys())

    @property
    def coherent(self) -> bool:
        """True if what the equation reads, and what is looked back at, are states."""
        looked_at = set().union(*(lags(expr) for expr in self.recurrences.values()), names(self.expr))
        return looked_at & self.recurrences.keys() <= set(self.states)


def nodes(candidate: Candidate) -> int:
    """A candidate's complexity: nodes of its equation and of its further recurrences.

    An average counts as the one name that it is in the equation, like a column; its price is its state.
    """
    return sum(map(complexity, (candidate.expr, *candidate.recurrences.values())))


def constant_name(index: int) -> str:
    """The name of a lifted constant; no rule can have such a name."""
    return f"cf_{index}"


def is_form(value: float) -> bool:
    """True for a whole number that is part of an equation's form, not a fitted constant."""
    return value.is_integer() and abs(value) <= 3


def lift_constants(expr: Expr, first: int = 0) -> tuple[Expr, list[float]]:
    """Replace the fitted constants by the names ``cf_0``, ``cf_1``, ... (from ``first`` on), left to right."""
    found: list[float] = []

    def lift(node: Expr) -> Expr:
        if isinstance(node, Apply):
            return Apply(node.op, tuple(lift(arg) for arg in node.args))
        if isinstance(node, Number) and not is_form(node.value):
            found.append(node.value)
            return Symbol(constant_name(first + len(found) - 1))
        return node

    return lift(expr), found


def put_constants(expr: Expr, values: dict[str, float]) -> Expr:
    """Replace names by numbers, where the sign of a number may change what the parser would read."""
    if isinstance(expr, Apply):
        return apply(expr.op, *(put_constants(arg, values) for arg in expr.args))
    return Number(values[expr.name]) if isinstance(expr, Symbol) and expr.name in values else expr
