"""From an equation over columns to a whole rule: the columns' own recurrences and the further states come along."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from string import ascii_lowercase
from typing import Any

from closedform.distillation.problem._candidate import Average, Candidate, constant_name, floors, lift_constants
from closedform.lang import INPUTS, Expr, Lag, Number, Program, Symbol, apply, rename
from closedform.rules import Rule

FLOOR, MOST_FLOOR = "eps", 1e-2
"""What a small constant is called that keeps a denominator off 0, and how large it may be."""


def compose_rule(
    name: str, candidate: Candidate, source: Program, provenance: Mapping[str, Any], results: Mapping[str, Any]
) -> Rule:
    """A rule from an equation over a recording's signals; see `compose`.

    Args:
        name: The rule's name.
        candidate: The equation.
        source: The recording's program.
        provenance, results: As in `Rule`.
    """
    return Rule(name, compose(candidate, source), 1.0, dict(provenance), dict(results))


def compose(candidate: Candidate, source: Program) -> Program:
    """The program of an equation over a recording's signals.

    The fitted constants become c1, c2, ..., and eps; averages and further states become states of the program, with
    decays of their own: so all can be meta-tuned. What the equation does not need of the source is left out.

    Raises:
        ExpressionError: it is past the language's limits.
    """
    candidate = candidate.live
    if candidate.whole is not None:
        return candidate.whole.live
    writer = _Writer(candidate, source)
    update = writer.lifted(candidate.expr)
    for label, average in sorted(candidate.averages.items(), key=lambda item: item[1].about is not None):
        writer.add_average(label, average)
    for label, expr in candidate.recurrences.items():
        writer.where[writer.called[label]] = writer.lifted(expr)
    return Program(writer.constants, writer.state, writer.where, {"update": update}).live


class _Writer:
    """A program that is being written: the source's sections, to which a candidate's parts are added one by one.

    Attributes:
        constants, state, where: The sections so far.
        called: What the candidate's averages and states are called in it.
    """

    def __init__(self, candidate: Candidate, source: Program) -> None:
        self.constants, self.state, self.where = dict(source.constants), dict(source.state), dict(source.where)
        self.called = state_names(candidate, source)
        self._averages = candidate.averages
        self._taken = {*source.constants, *source.state, *source.where, *INPUTS, *self.called.values()}
        self._numbered = (name for number in count(1) if (name := f"c{number}") not in self._taken)

    def lifted(self, expr: Expr) -> Expr:
        """An expression under the names used here, its fitted numbers made constants."""
        found, values = lift_constants(rename(expr, self.called))
        chosen = [next(self._numbered) for _ in values]
        for index in floors(found):
            if FLOOR not in self._taken and 0 < values[index] <= MOST_FLOOR:
                self._taken.add(FLOOR)
                chosen[index] = FLOOR
        self.constants.update(zip(chosen, values, strict=True))
        return rename(found, {constant_name(index): name for index, name in enumerate(chosen)})

    def add_average(self, label: str, average: Average) -> None:
        """An average's recurrence, its decay, and what is read of it: its largest value so far, or it corrected.

        A state cannot read named values, so an average of one is a named value that reads its own past, which costs
        the same buffer.
        """
        stored = _stored(self.called[label], average)
        mean = f"{stored}_now" if average.kind == "top" else stored
        if average.signal in INPUTS and not average.about:
            self.state[mean] = self._recurrence(average, stored, Symbol(mean))
        else:
            self.where[mean] = self._recurrence(average, stored, Lag(mean, 1))
        if average.kind == "top":
            self.where[stored] = apply("max", Lag(stored, 1), Symbol(mean))
        if average.kind != "sum":
            self.constants[f"d_{stored}"] = average.decay
        if average.corrected:
            left = apply("sub", Number(1), apply("pow", Symbol(f"d_{stored}"), Symbol("t")))
            self.where[self.called[label]] = apply("div", Symbol(stored), left)

    def _recurrence(self, average: Average, stored: str, before: Expr) -> Expr:
        """The next value of an average, given its last one."""
        signal: Expr = Symbol(average.signal)
        if average.about is not None:
            label = next(label for label, other in self._averages.items() if other.state == average.about)
            signal = apply("sub", signal, Symbol(_stored(self.called[label], self._averages[label])))
        value = apply(average.transform, signal) if average.transform else signal
        if average.kind == "sum":
            return apply("add", before, value)
        decay = Symbol(f"d_{stored}")
        if average.kind == "peak":
            return apply("max", apply("mul", decay, before), value)
        return apply("add", apply("mul", decay, before), apply("mul", apply("sub", Number(1), decay), value))


def state_names(candidate: Candidate, source: Program) -> dict[str, str]:
    """What a candidate's averages and further states are called in its rule's expressions.

    Without the decays that labels tell, which no longer hold once fitted: ``m``, ``v_hat``, ``avg_m_tilde_b``.
    """
    taken = {*source.constants, *source.state, *source.where, *INPUTS}
    fresh: dict[str, str] = {}
    wanted = {label: average.stem for label, average in candidate.averages.items()}
    for label, stem in {**wanted, **{label: label for label in candidate.recurrences}}.items():
        options = (stem, *(f"{stem}_{letter}" for letter in ascii_lowercase[1:]))
        name = next(name for name in options if not {name, f"{name}_hat", f"{name}_now", f"d_{name}"} & taken)
        average = candidate.averages.get(label)
        fresh[label] = f"{name}_hat" if average and average.corrected else name
        taken |= {name, f"{name}_hat", f"{name}_now"}
    return fresh


def _stored(name: str, average: Average) -> str:
    """The state behind the name that expressions read."""
    return name.removesuffix("_hat") if average.corrected else name
