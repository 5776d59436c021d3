"""A rule at work on a task: what each term of its update contributes, by tensor and by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from closedform.rules import Rule, load_rule
from closedform.tasks import Task
from closedform.unroll import Problem, generator_for


@dataclass(frozen=True)
class Watch:
    """What was seen; S steps, L parameter tensors, K terms.

    Attributes:
        rule, task: Their names.
        terms: [K], texts in the rule language.
        layers: [L], names of the tensors.
        sizes: [L], their elements.
        loss: [S], before each step.
        shares: [S][L][K]: mean of term x update over mean of update^2. They sum to 1; one below 0 works against the
            others. NaN where a tensor does not move.
        updates, gradients, weights: [S][L], root mean squares; updates with the learning rate.
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
        """Shares of the terms over all tensors together, [S][K]."""
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
    for t in range(1, steps + 1):
        if not eye.step(t):
            break
        if progress is not None:
            progress(t, steps, f"loss {eye.loss[-1]:.4g}")
    return eye.seen()


class _Eye:
    def __init__(self, rule: Rule, task: Task, steps: int, seed: int) -> None:
        self.rule, self.problem, self.total = rule, Problem(task), steps
        self.terms = terms_of(rule)
        live = rule.program.live
        outputs = {f"term{k}": term for k, term in enumerate(self.terms)}
        self.program = Program(live.constants, live.state, live.where, {**live.outputs, **outputs}, live.init)
        self.generator = generator_for(seed, 11)
        self.w = self.problem.start(self.generator)
        self.memories: list[Memory] = [initial_memory(self.program, part) for part in self.parts(self.w)]
        self.loss: list[float] = []
        self.rows: list[list[tuple[float, float, float, list[float]]]] = []
        self.diverged_at: int | None = None

    def parts(self, flat: Tensor) -> list[Tensor]:
        return list(self.problem.flat.unflatten(flat).values())

    @torch.no_grad()
    def step(self, t: int) -> bool:
        """One step; False where something is no longer finite."""
        loss, gradient = self.problem.loss_and_grad(self.w, self.generator)
        moved, row = [], []
        for k, (g, w) in enumerate(zip(self.parts(gradient), self.parts(self.w), strict=True)):
            update, shares, self.memories[k] = self.taken_apart(t, g, w, self.memories[k])
            moved.append(update.reshape(-1))
            row.append((_rms(update), _rms(g), _rms(w), shares))
        whole = torch.cat(moved).to(self.w.dtype)
        if not (bool(torch.isfinite(whole).all()) and math.isfinite(float(loss))):
            self.diverged_at = t
            return False
        self.loss.append(float(loss))
        self.rows.append(row)
        self.w = self.w + whole
        return True

    def taken_apart(self, t: int, g: Tensor, w: Tensor, memory: Memory) -> tuple[Tensor, list[float], Memory]:
        now = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": now, **horizon_inputs(now, self.total), **shape_inputs(w.shape)}
        outputs, memory = step(self.program, inputs, memory)
        update = outputs["update"].expand_as(w).to(torch.float64)
        power = float(update.square().mean())
        parts = [outputs[f"term{k}"].expand_as(w).to(torch.float64) for k in range(len(self.terms))]
        shares = [float((part * update).mean()) / power if power else math.nan for part in parts]
        return self.rule.lr * update, shares, memory

    def seen(self) -> Watch:
        flat = self.problem.flat
        return Watch(
            self.rule.name,
            self.problem.task.name,
            tuple(to_text(term) for term in self.terms),
            tuple(flat.shapes),
            flat.sizes,
            tuple(self.loss),
            tuple(tuple(tuple(entry[3]) for entry in row) for row in self.rows),
            _column(self.rows, 0),
            _column(self.rows, 1),
            _column(self.rows, 2),
            self.diverged_at,
        )


def _column(
    rows: Sequence[Sequence[tuple[float, float, float, list[float]]]], place: int
) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(entry[place]) for entry in row) for row in rows)  # type: ignore[arg-type]


def _rms(value: Tensor) -> float:
    return float(value.to(torch.float64).square().mean().sqrt())
