"""From an equation over columns to a whole rule: the columns' own recurrences and the further states come along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """A rule from an equation over a recording's signals.

    The fitted constants become c1, c2, ..., and eps; averages and further states become states of the rule, with decays
    of their own: so all can be meta-tuned. Recurrences that the equation does not need are left out.

    Args:
        name: The rule's name.
        candidate: The equation.
        source: The recording's program.
        provenance, results: As in `Rule`.
    """
    candidate = candidate.live
    fresh = state_names(candidate, source)
    constants = dict(source.constants)
    taken = {*source.constants, *source.state, *source.where, *INPUTS, *fresh.values()}
    numbers = _fresh_constants(taken)

    def lifted(expr: Expr) -> Expr:
        found, values = lift_constants(rename(expr, fresh))
        chosen = [next(numbers) for _ in values]
        for index in floors(found):
            if FLOOR not in taken and 0 < values[index] <= MOST_FLOOR:
                taken.add(FLOOR)
                chosen[index] = FLOOR
        constants.update(zip(chosen, values, strict=True))
        return rename(found, {constant_name(index): name for index, name in enumerate(chosen)})

    update = lifted(candidate.expr)
    state, where = dict(source.state), dict(source.where)
    for label, average in sorted(candidate.averages.items(), key=lambda item: item[1].about is not None):
        name = _stored(fresh[label], average)
        mean = f"{name}_now" if average.kind == "top" else name
        before = Symbol(mean) if average.signal in INPUTS and not average.about else Lag(mean, 1)
        # a state cannot read named values; a named value that reads its own past costs the same
        (state if before == Symbol(mean) else where)[mean] = _recurrence(average, name, before, candidate, fresh)
        if average.kind == "top":
            where[name] = apply("max", Lag(name, 1), Symbol(mean))
        if average.kind != "sum":
            constants[f"d_{name}"] = average.decay
        if average.corrected:
            left = apply("sub", Number(1), apply("pow", Symbol(f"d_{name}"), Symbol("t")))
            where[fresh[label]] = apply("div", Symbol(name), left)
    for label, expr in candidate.recurrences.items():
        where[fresh[label]] = lifted(expr)
    return Rule(name, Program(constants, state, where, {"update": update}).live, 1.0, dict(provenance), dict(results))


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


def _fresh_constants(taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        if f"c{number}" not in taken:
            yield f"c{number}"


def _stored(name: str, average: Average) -> str:
    """The state behind the name that expressions read."""
    return name.removesuffix("_hat") if average.corrected else name


def _recurrence(average: Average, name: str, before: Expr, candidate: Candidate, fresh: Mapping[str, str]) -> Expr:
    signal: Expr = Symbol(average.signal)
    if average.about is not None:
        label = next(label for label, other in candidate.averages.items() if other.state == average.about)
        signal = apply("sub", signal, Symbol(_stored(fresh[label], candidate.averages[label])))
    value = apply(average.transform, signal) if average.transform else signal
    if average.kind == "sum":
        return apply("add", before, value)
    decay = Symbol(f"d_{name}")
    if average.kind == "peak":
        return apply("max", apply("mul", decay, before), value)
    return apply("add", apply("mul", decay, before), apply("mul", apply("sub", Number(1), decay), value))
