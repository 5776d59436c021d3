"""Optimizers side by side: each by itself, and all over the same gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from closedform import tasks
from closedform._options import check_count, check_seed
from closedform._progress import Progress
from closedform.analysis._certify import Certificates, certify
from closedform.analysis._replay import replayed
from closedform.analysis.comparison._map import Map, distances
from closedform.analysis.nearest import Nearest, nearest
from closedform.analysis.perception import Perception, perception
from closedform.analysis.portrait import Portrait, portrait
from closedform.errors import DivergenceError, OptionError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, fresh_state, load_optimizer
from closedform.rules import Rule, library_names, load_rule
from closedform.tasks import Task
from closedform.trajectories import RecordConfig, record
from closedform.unroll import Problem, begin, generator_for, steps

Entrant: TypeAlias = Rule | LearnedOptimizer | str | Path
MOST = 30
"""Optimizers on one page."""
GUIDE = "adam"
"""Whose gradients all are run over."""
_RECORDED = RecordConfig(episodes=2, coordinates=32, samples=1000)


@dataclass(frozen=True)
class ComparisonRow:
    """One optimizer.

    Attributes:
        name: What it is called on the page.
        optimizer: It: a rule, or a learned optimizer.
        kind: ``"rule"``, ``"network"`` or ``"other"``.
        complexity: Nodes of a rule; None for others.
        state_cost: Buffers a parameter.
        perception, portrait: How far back it looks, and what it does; None where its updates are not finite.
        certificates: What is proved of a rule; None for others.
        nearest: The known optimizer that it is nearest to; None for the library's own.
        problem: Why something is missing; empty if nothing is.
    """

    name: str
    optimizer: Rule | LearnedOptimizer
    kind: str
    complexity: int | None
    state_cost: float
    perception: Perception | None
    portrait: Portrait | None
    certificates: Certificates | None
    nearest: Nearest | None
    problem: str = ""

    @property
    def rule(self) -> Rule | None:
        """The rule, if it is one."""
        return self.optimizer if isinstance(self.optimizer, Rule) else None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {key: getattr(self, key) for key in ("name", "kind", "complexity", "state_cost", "problem")}
        parts = {key: getattr(self, key) for key in ("perception", "portrait", "certificates", "nearest")}
        return {**plain, **{key: None if part is None else part.to_dict() for key, part in parts.items()}}


@dataclass(frozen=True)
class Comparison:
    """Optimizers side by side.

    Attributes:
        rows: One each.
        map: How differently they answer; None for fewer than two whose updates are finite.
        task, steps: What the common gradients are of.
    """

    rows: tuple[ComparisonRow, ...]
    map: Map | None
    task: str
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [row.to_dict() for row in self.rows]
        return {"task": self.task, "steps": self.steps, "rows": rows, "map": asdict(self.map) if self.map else None}


def compare(
    optimizers: Sequence[Entrant] | Mapping[str, Entrant],
    task: Task | str = "mlp-digits",
    *,
    steps: int = 150,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Put optimizers side by side.

    Args:
        optimizers: Rules, networks, or names and paths of them; with labels, if it is a mapping.
        task: Whose gradients they are run over, as Adam meets them.
        steps: Of that episode.
        seed: Draws it.
        progress: Called after every optimizer.

    Raises:
        OptionError: there are none, or more than 30.
        UnknownNameError, RuleError, CheckpointError: one cannot be loaded.
    """
    check_count("steps", steps, 10, 10_000)
    check_seed("seed", seed)
    if not 1 <= len(optimizers) <= MOST:
        raise OptionError(f"compare 1 to {MOST} optimizers, not {len(optimizers)}")
    entrants = _labelled(optimizers)
    bench = _Bench(task if isinstance(task, Task) else tasks.get(task), steps, seed)
    rows, updates = [], {}
    for index, (name, optimizer) in enumerate(entrants.items()):
        if progress is not None:
            progress(index, len(entrants), name)
        answers = bench.answers(optimizer)
        finite = bool(torch.isfinite(answers).all())
        if finite and bool((answers != 0).any()):
            updates[name] = answers
        rows.append(bench.row(name, optimizer, finite))
    if progress is not None:
        progress(len(entrants), len(entrants), "")
    return Comparison(tuple(rows), distances(updates), bench.task.name, steps)


def _labelled(optimizers: Sequence[Entrant] | Mapping[str, Entrant]) -> dict[str, Rule | LearnedOptimizer]:
    if isinstance(optimizers, Mapping):
        return {name: load_optimizer(entrant) for name, entrant in optimizers.items()}
    found: dict[str, Rule | LearnedOptimizer] = {}
    for entrant in optimizers:
        loaded = load_optimizer(entrant)
        name, number = loaded.name, 2
        while name in found:
            name, number = f"{loaded.name} ({number})", number + 1
        found[name] = loaded
    return found


class _Bench:
    """The common ground."""

    def __init__(self, task: Task, steps_: int, seed: int) -> None:
        self.task, self.steps, self.seed = task, steps_, seed
        self.problem = Problem(task)
        guide = SymbolicOptimizer(load_rule(GUIDE))
        with torch.no_grad():
            carry = begin(guide, self.problem, generator_for(seed, 7), steps_)
            met = [step.before for step in steps(guide, self.problem, carry, steps_)]
        self.gradients = torch.stack([before.gradient for before in met])
        self.weights = torch.stack([before.w for before in met])
        self.recording = record(GUIDE, task, _RECORDED, steps=steps_, seed=seed)

    def answers(self, optimizer: Rule | LearnedOptimizer) -> Tensor:
        """Updates [T, N] over the common gradients."""
        learned = SymbolicOptimizer(optimizer) if isinstance(optimizer, Rule) else optimizer
        shapes = [*self.problem.flat.shapes.values()]
        state = fresh_state(learned, self.weights[0], shapes, self.steps)
        return replayed(learned.bind(), state, self.gradients, self.weights)[0].to(torch.float64)

    def row(self, name: str, optimizer: Rule | LearnedOptimizer, finite: bool) -> ComparisonRow:
        rule = optimizer if isinstance(optimizer, Rule) else None
        kind = "rule" if isinstance(optimizer, Rule) else "other" if optimizer.opaque else "network"
        cost = (rule.complexity if rule else None, optimizer.state_cost)
        certificates = certify(rule) if rule else None
        if not finite:
            told = "its updates are not finite over these gradients"
            return ComparisonRow(name, optimizer, kind, *cost, None, None, certificates, None, told)
        field = perception(optimizer, self.recording, seed=self.seed)
        drawn, problem = None, ""
        try:
            drawn = portrait(optimizer, seed=self.seed)
        except OptionError as error:
            problem = str(error)
        return ComparisonRow(name, optimizer, kind, *cost, field, drawn, certificates, self.nearest(optimizer), problem)

    def nearest(self, optimizer: Rule | LearnedOptimizer) -> Nearest | None:
        if isinstance(optimizer, Rule) and optimizer.name in library_names() and optimizer == load_rule(optimizer.name):
            return None
        try:
            return nearest(record(optimizer, self.task, _RECORDED, steps=self.steps, seed=self.seed))
        except DivergenceError:
            return None
