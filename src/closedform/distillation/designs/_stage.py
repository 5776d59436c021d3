"""The stage that looks for whole optimizers."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Generator, Iterator, Mapping

import torch
from torch import Tensor

from closedform.distillation._config import DistillConfig
from closedform.distillation.designs._fit import Cells, Fitted, fitted, weighted
from closedform.distillation.designs._search import searched
from closedform.distillation.designs._words import in_words
from closedform.distillation.problem import WHOLE, Candidate, Episodes, Part, Problem
from closedform.lang import Expr, Number, Program, Symbol, apply, lags, substitute, walk

_SIGNAL, _PARAMETER, _STAGE = "g", "w", "designs"
SEARCHED, CELLS, FINISHED = 48, 15_000, 320
"""Sequences, and their cells, that designs are searched on; sequences that what is found is fitted to."""
TENSOR_CELLS = 60_000
"""Cells of whole tensors that designs are searched on and fitted to."""
SHARE = 0.5
"""Of the time limit, after which no further level is begun."""
EXPLAINED = 1e-12
STEPS = 60
FEW = 100
"""Elements of a tensor that may be a bias."""
SLACK = 1e-3
"""Share by which rounding may raise the error."""


def designed(data: Problem, config: DistillConfig) -> Iterator[Candidate]:
    """Whole programs over the gradient, and the parameter where it was recorded; nothing without whole episodes.

    First those that treat each coordinate by itself; where these explain little, and whole tensors were recorded, those
    that look at them.
    """
    whole = data.recurrent and not data.windowed and _SIGNAL in data.train.signals
    if not (whole and config.decays and config.time_limit):
        return
    cells = _cells(data.train, SEARCHED, CELLS)
    if not bool(cells.target.any()):
        return
    until = time.monotonic() + SHARE * config.time_limit
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its arrays are small: threads would wait for each other
    reads_parameter = _PARAMETER in data.train.signals
    try:
        more = _cells(data.train, FINISHED, CELLS * FINISHED // SEARCHED)
        found = yield from _finished(searched(cells, EXPLAINED, reads_parameter, until), more)
        if found > EXPLAINED and data.train.tensors is not None and reads_parameter:
            cells = _whole_tensors(data.train, TENSOR_CELLS)
            until = time.monotonic() + SHARE * config.time_limit
            yield from _finished(searched(cells, EXPLAINED, True, until, tensors=True), cells)
    finally:
        torch.set_num_threads(threads)


def _finished(search: Iterator[Fitted], more: Cells) -> Generator[Candidate, None, float]:
    """What a search finds, fitted to more and rounded; returns the last one's error."""
    error = math.inf
    for found in search:
        best = fitted(found.design, more, found.constants, STEPS) or found
        constants, weights = _rounded(best, more)
        program = _summed(best.program, constants, weights)
        error = best.error
        if not isinstance(program.outputs[WHOLE], Number):
            yield Candidate.of(program, _STAGE, in_words(best.design, constants, weights))
    return error


def _whole_tensors(part: Part, most: int) -> Cells:
    """Sequences of whole tensors, of one episode after another, of as many steps as there is room for.

    Of each episode the smallest ones, up to the first that is more than a few numbers, which may begin as zeros.
    """
    assert part.tensors is not None
    given = (part.episode_gradients, part.episode_weights, part.episode_updates)
    numbers, sizes = part.tensors.unique(return_counts=True)
    episode = part.tensors.view(len(given[0]), -1)[:, 0]
    chosen: list[int] = []
    columns = 0
    for first in episode.tolist():
        own = part.tensors.view(len(given[0]), -1)[episode == first].unique()
        for number in own[sizes[torch.isin(numbers, own)].argsort(stable=True)].tolist():
            size = int(sizes[numbers == number])
            if columns and columns + size > most // STEPS:
                break
            chosen.append(number)
            columns += size
            if size > FEW:
                break
    steps = min(given[0].shape[1], max(most // columns, STEPS))
    taken = torch.isin(part.tensors, torch.tensor(chosen))
    places = part.tensors[taken].unique(return_inverse=True)[1]
    gradients, weights, updates = (values.transpose(0, 1).flatten(1)[:steps, taken] for values in given)
    assert part.dimensions is not None
    return _known(gradients, weights, updates, given[0].shape[1], places, part.dimensions[taken])


def _known(gradients: Tensor, weights: Tensor, updates: Tensor, total: int, *tensors: Tensor) -> Cells:
    """Cells [T, N] up to where a sequence ends; an update that is lost is passed over."""
    known = torch.isfinite(gradients + weights).to(torch.int64).cumprod(0).bool()  # what follows has lost its past
    finite = known & torch.isfinite(updates)
    gradients, weights = (torch.nan_to_num(values, 0.0, 0.0, 0.0) for values in (gradients, weights))
    return Cells(Episodes(gradients, weights, total, *tensors), updates, finite)


def _cells(part: Part, sequences: int, most: int) -> Cells:
    """Whole sequences of the training episodes, of gradients of all sizes but 0."""
    given = (part.episode_gradients, part.episode_weights, part.episode_updates)
    gradients, weights, updates = (values.transpose(0, 1).flatten(1) for values in given)
    sizes = torch.nan_to_num(gradients, 0.0, 0.0, 0.0).square().sum(dim=0)
    moving = sizes.argsort(stable=True)[int((sizes == 0).sum()) :]
    count = min(sequences, len(moving))
    chosen = moving[torch.linspace(0, max(len(moving) - 1, 0), count).round().to(torch.int64)]
    steps = min(len(gradients), max(most // max(count, 1), 1))
    gradients, weights, updates = (values[:steps, chosen] for values in (gradients, weights, updates))
    return _known(gradients, weights, updates, part.episode_gradients.shape[1])


def _rounded(found: Fitted, cells: Cells) -> tuple[dict[str, float], list[float]]:
    """Constants and terms' weights with as few digits as cost next to nothing."""
    rounding = _Rounding(found, cells)
    constants = dict(found.constants)
    for name in constants:
        constants = rounding.shorter(constants, name)
    return constants, rounding.weights(constants)


class _Rounding:
    def __init__(self, found: Fitted, cells: Cells) -> None:
        self.found, self.cells, self.y = found, cells, cells.target
        self.limit = self.error(found.constants) * (1 + SLACK) + EXPLAINED

    def table(self, constants: Mapping[str, float]) -> Tensor:
        outputs = self.cells.episodes.run(self.found.program, constants)
        return torch.stack([value[self.cells.finite] for value in outputs.values()], dim=1)

    def error(self, constants: Mapping[str, float], weights: Tensor | None = None) -> float:
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
    """One update, the weighted sum of the terms, without what it does not need."""
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
