"""A rule at work on a task: what each term of its update contributes, by tensor and by step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform import tasks
from closedform._options import check_count, check_seed
from closedform._progress import Progress
from closedform.analysis.terms._terms import terms_of
from closedform.lang import Memory, Program, horizon_inputs, initial_memory, shape_inputs, step, to_text
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule, load_rule
from closedform.tasks import Task
from closedform.unroll import Problem, begin, generator_for, steps


@dataclass(frozen=True)
class Watch:
    """What was seen; S steps, L parameter tensors, K terms.

    Attributes:
        rule, task: Their names.
        terms: [K], texts in the rule language.
        layers: [L], names of the tensors.
        sizes: [L], their elements.
        loss: [S], before each step.
        shares: [S, L, K]: mean of term x update over mean of update^2. They sum to 1; one below 0 works against the
            others. NaN where a tensor does not move.
        updates, gradients, weights: [S, L], root mean squares; updates with the learning rate.
        diverged_at: Step whose loss or update is no longer finite, which is not among them; None if there is none.
    """

    rule: str
    task: str
    terms: tuple[str, ...]
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    loss: tuple[float, ...]
    shares: tuple[tuple[tuple[float, ...], ...], ...]
    updates: tuple[tuple[float, ...], ...]
    gradients: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    diverged_at: int | None = None

    def whole(self) -> list[list[float]]:
        """Shares of the terms over all tensors together, [S, K]."""
        found = []
        for shares, updates in zip(self.shares, self.updates, strict=True):
            power = [n * u * u for n, u in zip(self.sizes, updates, strict=True)]
            total = sum(power) or math.nan
            parts = [[p * s for s in row] if p else [0.0] * len(row) for p, row in zip(power, shares, strict=True)]
            found.append([sum(column) / total for column in zip(*parts, strict=True)])
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def watch(
    rule: Rule | str | Path,
    task: Task | str = "mlp-digits",
    *,
    steps: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Watch:
    """Train a task's optimizee with a rule, and take every update apart.

    Args:
        rule: A rule, a library name or a path.
        task: What to train.
        steps: Steps, which are also the horizon of a rule that reads it.
        seed: Draws start and batches.
        progress: Called after every step.

    Raises:
        RuleError, UnknownNameError: no such rule or task.
        OptionError: a count makes no sense.
    """
    check_count("steps", steps, 1, 100_000)
    check_seed("seed", seed)
    eye = _Eye(load_rule(rule), task if isinstance(task, Task) else tasks.get(task), steps, seed)
    for t in eye.seeing():
        if progress is not None:
            progress(t, steps, f"loss {eye.loss[-1]:.4g}")
    return eye.seen()


@dataclass(frozen=True)
class _Entry:
    """What was seen of one tensor in one step."""

    update: float
    gradient: float
    weight: float
    shares: tuple[float, ...]


class _Eye:
    """A rule at its work, by the one loop, and its program beside it, whose outputs are the terms."""

    def __init__(self, rule: Rule, task: Task, steps: int, seed: int) -> None:
        self.rule, self.problem, self.total, self.seed = rule, Problem(task), steps, seed
        self.terms = terms_of(rule)
        live = rule.program.live
        outputs = {f"term{k}": term for k, term in enumerate(self.terms)}
        self.program = Program(live.constants, live.state, live.where, {**live.outputs, **outputs}, live.init)
        self.loss: list[float] = []
        self.rows: list[list[_Entry]] = []
        self.diverged_at: int | None = None

    def parts(self, flat: Tensor) -> list[Tensor]:
        return list(self.problem.flat.unflatten(flat).values())

    @torch.no_grad()
    def seeing(self) -> Iterator[int]:
        """Train, and look at every step; ends where something is no longer finite."""
        optimizer = SymbolicOptimizer(self.rule)
        carry = begin(optimizer, self.problem, generator_for(self.seed, 11), self.total)
        memories = [initial_memory(self.program, part) for part in self.parts(carry.w)]
        for t, taken in enumerate(steps(optimizer, self.problem, carry, self.total), start=1):
            if not (bool(torch.isfinite(taken.update).all()) and math.isfinite(float(taken.before.loss))):
                self.diverged_at = t
                return
            row = []
            read = (self.parts(flat) for flat in (taken.update, taken.before.gradient, taken.before.w))
            for k, (update, g, w) in enumerate(zip(*read, strict=True)):
                shares, memories[k] = self.taken_apart(t, g, w, memories[k])
                row.append(_Entry(_rms(update), _rms(g), _rms(w), shares))
            self.loss.append(float(taken.before.loss))
            self.rows.append(row)
            yield t

    def taken_apart(self, t: int, g: Tensor, w: Tensor, memory: Memory) -> tuple[tuple[float, ...], Memory]:
        """The shares of the terms in one tensor's update, and the memory after it."""
        now = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": now, **horizon_inputs(now, self.total), **shape_inputs(w.shape)}
        outputs, memory = step(self.program, inputs, memory)
        update = outputs["update"].expand_as(w).to(torch.float64)
        power = float(update.square().mean())
        parts = [outputs[f"term{k}"].expand_as(w).to(torch.float64) for k in range(len(self.terms))]
        return tuple(float((part * update).mean()) / power if power else math.nan for part in parts), memory

    def seen(self) -> Watch:
        flat = self.problem.flat
        return Watch(
            rule=self.rule.name,
            task=self.problem.task.name,
            terms=tuple(to_text(term) for term in self.terms),
            layers=tuple(flat.shapes),
            sizes=flat.sizes,
            loss=tuple(self.loss),
            shares=tuple(tuple(entry.shares for entry in row) for row in self.rows),
            updates=tuple(tuple(entry.update for entry in row) for row in self.rows),
            gradients=tuple(tuple(entry.gradient for entry in row) for row in self.rows),
            weights=tuple(tuple(entry.weight for entry in row) for row in self.rows),
            diverged_at=self.diverged_at,
        )


def _rms(value: Tensor) -> float:
    return float(value.to(torch.float64).square().mean().sqrt())
