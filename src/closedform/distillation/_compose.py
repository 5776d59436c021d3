"""From an equation over columns to a whole rule: the columns' own recurrences and the further states come along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_lowercase
from typing import Any

from closedform.distillation._candidate import Average, Candidate, constant_name, lift_constants
from closedform.lang import INPUTS, Expr, Lag, Number, Program, Symbol, apply, rename
from closedform.rules import Rule


def compose_rule(
    name: str, candidate: Candidate, source: Program, provenance: Mapping[str, Any], results: Mapping[str, Any]
) -> Rule:
    """A rule from an equation over a recording's signals.

    The fitted constants become c1, c2, ...; averages and further states become states of the rule, with decays of their
    own: so all can be meta-tuned. Recurrences that the equation does not need are left out.

    Args:
        name: The rule's name.
        candidate: The equation.
        source: The recording's program.
        provenance, results: As in `Rule`.
    """
    candidate = candidate.live
    fresh = state_names(candidate, source)
    constants = dict(source.constants)
    numbers = _fresh_constants({*source.constants, *source.state, *source.where, *INPUTS})

    def lifted(expr: Expr) -> Expr:
        found, values = lift_constants(rename(expr, fresh))
        chosen = [next(numbers) for _ in values]
        constants.update(zip(chosen, values, strict=True))
        return rename(found, {constant_name(index): name for index, name in enumerate(chosen)})

    update = lifted(candidate.expr)
    state, where = dict(source.state), dict(source.where)
    for label, average in candidate.averages.items():
        constants[f"d_{fresh[label]}"] = average.decay
        if average.signal in INPUTS:
            state[fresh[label]] = _average_recurrence(average, fresh[label], Symbol(fresh[label]))
        else:  # a state cannot read named values; a named value that reads its own past costs the same
            where[fresh[label]] = _average_recurrence(average, fresh[label], Lag(fresh[label], 1))
    for label, expr in candidate.recurrences.items():
        where[fresh[label]] = lifted(expr)
    return Rule(name, Program(constants, state, where, {"update": update}).live, 1.0, dict(provenance), dict(results))


def state_names(candidate: Candidate, source: Program) -> dict[str, str]:
    """What a candidate's averages and further states are called in its rule.

    Without the decays that labels tell, which no longer hold once fitted: ``avg_m_tilde``, ``avg_m_tilde_b``.
    """
    taken = {*source.constants, *source.state, *source.where, *INPUTS}
    fresh: dict[str, str] = {}
    wanted = {label: average.stem for label, average in candidate.averages.items()}
    for label, stem in {**wanted, **{label: label for label in candidate.recurrences}}.items():
        options = (stem, *(f"{stem}_{letter}" for letter in ascii_lowercase[1:]))
        fresh[label] = next(name for name in options if not {name, f"d_{name}"} & taken)
        taken.add(fresh[label])
    return fresh


def _fresh_constants(taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        if f"c{number}" not in taken:
            yield f"c{number}"


def _average_recurrence(average: Average, name: str, before: Expr) -> Expr:
    decay, signal = Symbol(f"d_{name}"), Symbol(average.signal)
    value = apply(average.transform, signal) if average.transform else signal
    return apply("add", apply("mul", decay, before), apply("mul", apply("sub", Number(1), decay), value))
