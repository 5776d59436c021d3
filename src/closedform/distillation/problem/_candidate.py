"""Candidates: equations with the further states that they need, and their constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from closedform.lang import (
    Apply,
    Expr,
    Kind,
    Lag,
    Number,
    Program,
    Symbol,
    apply,
    complexity,
    kind_of,
    lags,
    names,
    substitute,
    walk,
)

WHOLE, MEAN = "update", 7
"""The output of a whole program; nodes of an average ``d*s + (1 - d)*x`` besides d, in which a scalar counts once."""
DIGITS = (3, 4, 5, 6, 8, 10, 12, 14, 15, 16)
"""Significant digits that constants are tried with, fewest first."""


@dataclass(frozen=True)
class Average:
    """A state that a rule may keep: the moving average ``s <- decay*s + (1 - decay)*f(signal)``, or one of its kin.

    Attributes:
        signal: Name of a signal of the recording.
        decay: Between 0 and 1.
        transform: f, an operator of one argument; None for the signal itself.
        corrected: Whether it is read as s/(1 - decay**t), which undoes the start at 0 (Kingma & Ba 2015, section 3).
        about: An average that is taken off the signal before f, uncorrected (Zhuang et al. 2020, AdaBelief). A
            candidate lists it, corrected or not, among its own averages: it is one of its states.
        kind: A key of ``KINDS``.
    """

    signal: str
    decay: float
    transform: str | None = None
    corrected: bool = False
    about: Average | None = None
    kind: str = "mean"

    @property
    def state(self) -> Average:
        """What is stored: the same, uncorrected."""
        return replace(self, corrected=False)

    @property
    def stem(self) -> str:
        """What it is an average of, as a name: ``m`` and ``v`` of the gradient as everywhere, ``avg_cube_m_tilde``."""
        if self.about is not None:
            return "s"
        known = _STEMS.get((self.signal, self.transform, self.kind))
        return known or "_".join(filter(None, (KINDS[self.kind], self.transform, self.signal)))

    @property
    def label(self) -> str:
        """A name for it among others of other decays: ``avg_m_tilde_95``, ``v_hat_999``."""
        decays = (self.decay, self.about.decay) if self.about else (self.decay,)
        tails = (f"{decay:g}".partition(".")[2] for decay in decays)
        return "_".join([f"{self.stem}_hat" if self.corrected else self.stem, *tails])


KINDS = {"mean": "avg", "peak": "peak", "sum": "sum", "top": "top"}
"""``mean``: as above. ``peak``: s <- max(decay*s, f) (Adamax). ``sum``: s <- s + f, whatever the decay (Adagrad).
``top``: the largest mean so far, another buffer (AMSGrad). With what their names begin."""
_STEMS = {
    ("g", None, "mean"): "m",
    ("g", "square", "mean"): "v",
    ("g", "square", "top"): "v_max",
    ("g", "abs", "peak"): "u",
}


@dataclass(frozen=True)
class Candidate:
    """An equation that a stage proposes.

    Attributes:
        expr: Over signals, their lags and averages; constants as numbers; the update in its own units.
        averages: What each average's name in ``expr`` stands for.
        recurrences: Further states, and named values that they share, in order: name -> value over the signals now, the
            states' past as ``prev(s)``, and earlier names that read no past.
        stage: Which stage made it.
        whole: A whole program, of which ``expr`` is the output ``update``; it has no further states then.
    """

    expr: Expr
    averages: Mapping[str, Average] = field(default_factory=dict)
    recurrences: Mapping[str, Expr] = field(default_factory=dict)
    stage: str = ""
    whole: Program | None = None

    @classmethod
    def of(cls, program: Program, stage: str) -> Candidate:
        """A whole program, whose output is the update in its own units."""
        return cls(Symbol(WHOLE), stage=stage, whole=program)

    def __hash__(self) -> int:
        return hash(self.expr)

    @property
    def live(self) -> Candidate:
        """The same without averages and states that the equation does not need."""
        if self.whole is not None:
            return self
        needed = names(self.expr)
        while True:
            read = (names(expr) | set(lags(expr)) for name, expr in self.recurrences.items() if name in needed)
            about = {average.about for name, average in self.averages.items() if name in needed and average.about}
            further = needed.union(*read, (name for name, average in self.averages.items() if average.state in about))
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


def with_decays(averages: Mapping[str, Average], decays: Mapping[str, float]) -> dict[str, Average]:
    """Averages with other decays; those that others are taken about move along there too."""
    moved = {name: replace(average, decay=decays.get(name, average.decay)) for name, average in averages.items()}
    states = {average.state: moved[name].state for name, average in averages.items()}
    return {
        name: replace(average, about=states[average.about]) if average.about else average
        for name, average in moved.items()
    }


def nodes(candidate: Candidate) -> int:
    """A candidate's complexity: nodes of its equation and of its further recurrences.

    An average counts as the one name that it is in the equation, like a column; its price is its state. So does, in a
    whole program, an average or its correction for the start, and what is the same for all parameters.
    """
    if candidate.whole is not None:
        return _price(candidate.whole)
    return sum(map(complexity, (candidate.expr, *candidate.recurrences.values())))


def equation(program: Program) -> Expr:
    """A whole program's update with its constants as numbers, over states, corrected ones, and what else has a past."""
    read = {name: expr for name, expr in program.where.items() if not (_corrects(expr, program) or lags(expr))}
    known: dict[str, Expr] = {name: Number(value) for name, value in program.constants.items()}
    for name, expr in read.items():
        if program.kinds[name] is Kind.ELEMENTWISE:
            known[name] = substitute(expr, known)
    return substitute(program.outputs[WHOLE], known)


def _price(program: Program) -> int:
    values = {**program.state, **program.where}
    return sum(_nodes(expr, program) for expr in program.outputs.values()) + sum(
        max(_nodes(expr, program) - (MEAN if name in names(expr) or name in lags(expr) else 0), 0)
        for name, expr in values.items()
        if program.kinds[name] is Kind.ELEMENTWISE and not _corrects(expr, program)
    )


def _nodes(expr: Expr, program: Program) -> int:
    if kind_of(expr, program.kinds) is not Kind.ELEMENTWISE:
        return 1
    return 1 + sum(_nodes(arg, program) for arg in expr.args) if isinstance(expr, Apply) else 1


def _corrects(expr: Expr, program: Program) -> bool:
    """Whether it is a name over something that is the same for all parameters."""
    if not (isinstance(expr, Apply) and expr.op == "div" and isinstance(expr.args[0], (Symbol, Lag))):
        return False
    return kind_of(expr.args[1], program.kinds) is not Kind.ELEMENTWISE


def lag_name(lag: Lag) -> str:
    """The column that a lag reads: ``g_3``."""
    return f"{lag.name}_{lag.steps}"


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


def floors(expr: Expr) -> Iterator[int]:
    """Indices of the lifted constants that are added to what an equation divides by, such as eps."""
    for node in walk(expr):
        if isinstance(node, Apply) and node.op == "div":
            below = node.args[1]
            if isinstance(below, Apply) and below.op == "sqrt":
                below = below.args[0]
            if isinstance(below, Apply) and below.op == "add":
                found = [arg.name for arg in below.args if isinstance(arg, Symbol)]
                yield from (int(name.removeprefix("cf_")) for name in found if name.startswith("cf_"))
