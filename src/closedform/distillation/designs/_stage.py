"""The stage that looks for whole optimizers."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping

import torch

from closedform.distillation._config import DistillConfig
from closedform.distillation.designs._fit import Cells, Fitted, fitted, weighted
from closedform.distillation.designs._search import searched
from closedform.distillation.problem import WHOLE, Candidate, Episodes, Part, Problem
from closedform.lang import Expr, Number, Program, Symbol, apply, lags, substitute, walk

_SIGNAL, _PARAMETER, _STAGE = "g", "w", "designs"
SEARCHED, CELLS, FINISHED = 48, 15_000, 320
"""Sequences, and their cells, that designs are searched on; sequences that what is found is fitted to."""
SHARE = 0.5
"""Of the time limit, after which no further level is begun."""
EXPLAINED = 1e-12
STEPS = 60
SLACK = 1e-3
"""Share by which rounding may raise the error."""


def designed(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Whole programs over the gradient, and the parameter where it was recorded; nothing without whole episodes."""
    whole = data.recurrent and not data.windowed and _SIGNAL in data.train.signals
    if not (whole and config.decays and config.time_limit):
        return
    cells = _cells(data.train, SEARCHED, CELLS)
    if not bool(cells.target.any()):
        return
    more = _cells(data.train, FINISHED, CELLS * FINISHED // SEARCHED)
    until = time.monotonic() + SHARE * config.time_limit
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its arrays are small: threads would wait for each other
    try:
        for found in searched(cells, EXPLAINED, _PARAMETER in data.train.signals, until):
            best = fitted(found.design, more, found.constants, STEPS) or found
            program = _rounded(best, more)
            if not isinstance(program.outputs[WHOLE], Number):
                yield Candidate.of(program, _STAGE)
    finally:
        torch.set_num_threads(threads)


def _cells(part: Part, sequences: int, most: int) -> Cells:
    """Whole sequences of the training episodes, up to where one ends, of gradients of all sizes but 0."""
    given = (part.episode_gradients, part.episode_weights, part.episode_updates)
    gradients, weights, updates = (values.transpose(0, 1).flatten(1) for values in given)
    sizes = torch.nan_to_num(gradients, 0.0, 0.0, 0.0).square().sum(dim=0)
    moving = sizes.argsort(stable=True)[int((sizes == 0).sum()) :]
    count = min(sequences, len(moving))
    chosen = moving[torch.linspace(0, max(len(moving) - 1, 0), count).round().to(torch.int64)]
    steps = min(len(gradients), max(most // max(count, 1), 1))
    gradients, weights, updates = (values[:steps, chosen] for values in (gradients, weights, updates))
    finite = torch.isfinite(gradients + weights + updates).to(torch.int64).cumprod(0).bool()
    gradients, weights = (torch.nan_to_num(values, 0.0, 0.0, 0.0) for values in (gradients, weights))
    return Cells(Episodes(gradients, weights, part.episode_gradients.shape[1]), updates, finite)


def _rounded(found: Fitted, cells: Cells) -> Program:
    """The program with as few digits as cost next to nothing, its terms summed."""
    rounding = _Rounding(found, cells)
    constants = dict(found.constants)
    for name in constants:
        constants = rounding.shorter(constants, name)
    return _summed(found.program, constants, rounding.weights(constants))


class _Rounding:
    def __init__(self, found: Fitted, cells: Cells) -> None:
        self.found, self.cells, self.y = found, cells, cells.target
        self.limit = self.error(found.constants) * (1 + SLACK) + EXPLAINED

    def table(self, constants: Mapping[str, float]) -> torch.Tensor:
        outputs = self.cells.episodes.run(self.found.program, constants)
        return torch.stack([value[self.cells.finite] for value in outputs.values()], dim=1)

    def error(self, constants: Mapping[str, float], weights: torch.Tensor | None = None) -> float:
        table = self.table(constants)
        if not bool(torch.isfinite(table).all()):
            return float("inf")
        left = self.y - table @ (weighted(table, self.y) if weights is None else weights)
        return float(left @ left) / max(float(self.y @ self.y), 1e-300)

    def shorter(self, constants: dict[str, float], name: str) -> dict[str, float]:
        for value in _fewer(constants[name], name.startswith("d_")):
            tried = {**constants, name: value}
            if self.error(tried) <= self.limit:
                return tried
        return constants

    def weights(self, constants: Mapping[str, float]) -> list[float]:
        table = self.table(constants)
        weights = weighted(table, self.y)
        for k in range(len(weights)):
            for value in (0.0, *_fewer(float(weights[k]), False)):
                tried = weights.clone()
                tried[k] = value
                left = self.y - table @ tried
                if float(left @ left) / max(float(self.y @ self.y), 1e-300) <= self.limit:
                    weights = tried
                    break
        return weights.tolist()


def _fewer(value: float, decay: bool) -> list[float]:
    """A number with more and more digits; of a decay, the digits of what it lacks of 1."""
    found = [1e-8] if value < 1e-4 and not decay and value > 0 else []
    for digits in range(1, 10):
        short = round(1 - float(f"{1 - value:.{digits}g}"), 15) if decay else float(f"{value:.{digits}g}")
        if not decay or 0 < short < 1:
            found.append(short)
    return found


def _summed(terms: Program, constants: Mapping[str, float], weights: list[float]) -> Program:
    parts: list[Expr] = []
    named = dict(constants)
    for k, (term, weight) in enumerate(zip(terms.outputs.values(), weights, strict=True), start=1):
        if weight in (1.0, -1.0):
            parts.append(term if weight > 0 else apply("neg", term))
        elif weight:
            named[f"c{k}"] = weight
            parts.append(apply("mul", Symbol(f"c{k}"), term))
    update = functools.reduce(functools.partial(apply, "add"), parts) if parts else Number(0)
    return _plain(Program(named, terms.state, terms.where, {WHOLE: update}, terms.init).live)


def _plain(program: Program) -> Program:
    """The same without named values that are read once, but for corrected averages and what has a past."""
    for name, expr in program.where.items():
        every = [*program.state.values(), *program.where.values(), *program.outputs.values()]
        count = sum(node == Symbol(name) for one in every for node in walk(one))
        past = {other for one in every for other in lags(one)}
        if count == 1 and name not in past and not lags(expr) and not name.endswith("_hat"):
            where = {k: substitute(one, {name: expr}) for k, one in program.where.items() if k != name}
            outputs = {k: substitute(one, {name: expr}) for k, one in program.outputs.items()}
            return _plain(Program(program.constants, program.state, where, outputs, program.init))
    return program
