"""Stages that fit small networks written as equations, and take out what does not pay.

What a recurrent network prints saturates more than once, and its memory's gates open and close. Two forms catch most:

- **units**: a sum of a few tanh of weighted sums of the columns and moving averages, decays fitted;
- **gated**: one or two states whose memory depends on what they read,

      f = 1/(1 + exp(d + q . |x|)),   s <- f*s + (1 - f)*tanh(a . x + b + r . s),   update = A*tanh(o . s + c . x + e)

  or without the last tanh, whichever the earlier stages preferred.

Both are fitted from several random starts to whole episodes; then parts are removed as long as fidelity hardly suffers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from closedform.distillation._tidy import tidy
from closedform.distillation.fit import reductions, refine
from closedform.distillation.problem import Average, Candidate, Problem, nodes
from closedform.lang import Expr, Lag, Number, Parity, Symbol, apply, parity

MAX_SIGNALS = 4
"""Columns that are read, the first ones without lag."""
UNIT_DECAYS = (0.85, 0.97)
"""Decays that the averages read by units start from."""
FIRST_STEPS, MORE_STEPS, REFIT_STEPS = 10, 30, 6
"""Steps of the fit from every start, from the best one, and after a part was taken out."""
FIT_ROWS = 3000
"""Training rows that these fits look at; what reaches the front is fitted to all."""
WORTH = 6e-4
"""R^2 that a part must add for each of its nodes to stay."""
STATE_NODES = 4
"""Nodes that a buffer a parameter counts as, when parts are weighed."""

Start = Callable[[torch.Generator], Candidate]


def units(data: Problem, count: int, averages: bool, seed: int, deadline: float) -> Iterator[Candidate]:
    """Sums of ``count`` tanh units over columns and averages, from the best fit to smaller ones.

    Args:
        data: The data.
        count: Units.
        averages: Whether they read averages too; the episodes must be there.
        seed: Draws the starts.
        deadline: ``time.monotonic()`` past which nothing more is begun.
    """
    yield from _fit_and_slim(lambda draws: _units_start(data, count, averages, draws), 4, data, seed, deadline)


def gated(data: Problem, states: int, bound: float | None, seed: int, deadline: float) -> Iterator[Candidate]:
    """Gated states, from the best fit to smaller ones.

    Args:
        data: The data; its episodes must be there.
        states: How many states.
        bound: A, where the update is a bounded function; None: it is linear in the states.
        seed: Draws the starts.
        deadline: ``time.monotonic()`` past which nothing more is begun.
    """
    yield from _fit_and_slim(lambda draws: _gated_start(data, states, bound, draws), 3, data, seed, deadline)


def _fit_and_slim(start: Start, starts: int, data: Problem, seed: int, deadline: float) -> Iterator[Candidate]:
    generator = torch.Generator().manual_seed(seed)
    kept = (data.symmetries.keep(start(generator)) for _ in range(starts))
    drawn = [candidate for candidate in kept if candidate is not None]
    fitted = [refine(candidate, data, FIRST_STEPS, FIT_ROWS) for candidate in drawn if time.monotonic() < deadline]
    if not fitted:
        return
    error = functools.partial(data.error, part=data.train)
    best = refine(min(fitted, key=error), data, MORE_STEPS, FIT_ROWS)
    yield best
    while time.monotonic() < deadline:
        smaller = _cheapest_reduction(best, data)
        if smaller is None:
            return
        refitted = refine(smaller, data, REFIT_STEPS, FIT_ROWS)
        if error(refitted) - error(best) > WORTH * (_price(best) - _price(refitted)):
            return
        best = refitted
        yield best


def _price(candidate: Candidate) -> int:
    return nodes(candidate) + STATE_NODES * (len(candidate.averages) + len(candidate.states))


def _cheapest_reduction(candidate: Candidate, data: Problem) -> Candidate | None:
    """The candidate without the part that loses least for what it saves, before the rest is fitted anew."""
    error, price = data.error(candidate, data.train), _price(candidate)
    options: list[tuple[float, int, Candidate]] = []
    for label, expr in {"": candidate.expr, **candidate.recurrences}.items():
        for shorter in reductions(expr):
            recurrences = {**candidate.recurrences, label: shorter} if label else candidate.recurrences
            changed = replace(candidate, expr=candidate.expr if label else shorter, recurrences=recurrences).live
            option = data.symmetries.keep(changed)
            if option is None:
                continue
            saved = price - _price(option)
            if saved > 0 and option.coherent:
                options.append(((data.error(option, data.train) - error) / saved, len(options), option))
    if not options:
        return None
    chosen = min(options)[2]
    recurrences = {name: tidy(expr) for name, expr in chosen.recurrences.items()}
    return replace(chosen, expr=tidy(chosen.expr), recurrences=recurrences).live


def _draw(count: int, generator: torch.Generator) -> list[float]:
    return (0.3 * torch.randn(count, generator=generator, dtype=torch.float64)).tolist()


def _weighted(terms: Sequence[Expr], scales: Sequence[float], generator: torch.Generator) -> list[Expr]:
    weights = [weight * scale for weight, scale in zip(_draw(len(terms), generator), scales, strict=True)]
    return [apply("mul", Number(weight), term) for weight, term in zip(weights, terms, strict=True)]


def _sum(terms: Sequence[Expr]) -> Expr:
    return functools.reduce(functools.partial(apply, "add"), terms)


def _units_start(data: Problem, count: int, recurrent: bool, generator: torch.Generator) -> Candidate:
    columns = data.present[:MAX_SIGNALS]
    decays = UNIT_DECAYS if recurrent else ()
    signals = [column.feature for column in columns if column in data.averaged]
    averages = {entry.label: entry for name in signals for entry in (Average(name, decay) for decay in decays)}
    values: dict[Expr, torch.Tensor] = {column.expr: data.train.columns[column.name] for column in columns}
    values |= {Symbol(label): data.train.average(average) for label, average in averages.items()}
    if data.symmetries.odd:
        forms = data.symmetries.forms
        known = forms.known(Candidate(Number(0), averages))
        signs = {expr: parity(expr, known) for expr in values}
        odd, even = ([expr for expr in values if signs[expr] is sign] for sign in (Parity.ODD, Parity.EVEN))
        values |= {apply("mul", x, factor): values[x] * values[factor] for factor in even for x in odd}
        values = {expr: value for expr, value in values.items() if expr not in even}
    scales = [1 / max(float(value.std()), 1e-300) for value in values.values()]
    total: list[Expr] = [Number(0.01 * data.scale)]
    for _ in range(count):
        inner = _sum([*_weighted(list(values), scales, generator), *map(Number, _draw(1, generator))])
        total.append(apply("mul", Number(-data.scale), apply("tanh", inner)))
    return Candidate(_sum(total), averages, {}, "units")


def _gated_start(data: Problem, states: int, bound: float | None, generator: torch.Generator) -> Candidate:
    columns = data.averaged[:MAX_SIGNALS]
    scales = [1 / float(data.train.columns[column.name].std()) for column in columns]
    signals: list[Expr] = [column.expr for column in columns]
    names = [f"s{k + 1}" for k in range(states)]
    recurrences: dict[str, Expr] = {}
    for index, name in enumerate(names):
        sizes = _weighted([apply("abs", signal) for signal in signals], scales, generator)
        gate = apply("exp", _sum([*sizes, Number(-1.05 - 2.9 * index)]))
        fed = [*_weighted(signals, scales, generator), *map(Number, _draw(1, generator))]
        if states > 1:
            fed += _weighted([Lag(other, 1) for other in names], [1.0] * states, generator)
        recurrences[f"f{index + 1}"] = apply("div", Number(1), apply("add", Number(1), gate))
        recurrences[name] = _leaky(f"f{index + 1}", name, apply("tanh", _sum(fed)))
    outputs = [apply("mul", Number(w - 1), Symbol(s)) for s, w in zip(names, _draw(states, generator), strict=True)]
    total = _sum([*outputs, *_weighted(signals, scales, generator), Number(0.01)])
    update = (
        apply("mul", Number(data.scale), total) if bound is None else apply("mul", Number(bound), apply("tanh", total))
    )
    return Candidate(update, {}, recurrences, "gated")


def _leaky(gate: str, state: str, fed: Expr) -> Expr:
    kept = apply("mul", Symbol(gate), Lag(state, 1))
    return apply("add", kept, apply("mul", apply("sub", Number(1), Symbol(gate)), fed))
