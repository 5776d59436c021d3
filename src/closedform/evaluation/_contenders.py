"""What can be compared, and how each kind is run on an optimizee.

A rule runs through `RuleOptimizer` on real parameters, the path that its user takes; a learned optimizer through its
pure interface over one flat vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import torch

from closedform.errors import OptionError
from closedform.evaluation._baselines import BASELINES, SCHEDULES, Baseline
from closedform.evaluation._torch_optimizers import TorchOptimizer
from closedform.learned_optimizers import LearnedOptimizer, fresh_state, load_optimizer
from closedform.optim import RuleOptimizer
from closedform.rules import Rule, load_rule
from closedform.tasks import Params

CONSTANT = "constant"
Optimizer: TypeAlias = Rule | Baseline | LearnedOptimizer | str | Path


class Run(Protocol):
    """One optimizer at work on one set of parameters."""

    params: Params

    def step(self, grads: Params) -> None:
        """Move ``params`` by one update."""


class OptimizerRun:
    """A torch optimizer at work, a rule's among them: its learning rates follow a schedule over ``steps``.

    Args:
        make: Makes the optimizer from the parameters.
        params: Where it starts.
        schedule: A name in `SCHEDULES`.
        steps: Length of the episode.
    """

    def __init__(
        self,
        make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
        params: Params,
        schedule: str,
        steps: int,
    ) -> None:
        self._leaves = [torch.nn.Parameter(value) for value in params.values()]
        self.params: Params = dict(zip(params, self._leaves, strict=True))
        self._optimizer = make(self._leaves)
        self._full = [group["lr"] for group in self._optimizer.param_groups]
        self._factor, self._steps, self._done = SCHEDULES[schedule], steps, 0

    def step(self, grads: Params) -> None:
        for leaf, grad in zip(self._leaves, grads.values(), strict=True):
            leaf.grad = grad
        factor = self._factor(self._done, self._steps)
        for group, full in zip(self._optimizer.param_groups, self._full, strict=True):
            group["lr"] = factor * full
        self._optimizer.step()
        self._done += 1


class LearnedRun:
    """A learned optimizer at work, through its pure interface."""

    def __init__(self, optimizer: LearnedOptimizer, params: Params, steps: int) -> None:
        with torch.no_grad():
            self._update = optimizer.bind()
        self._shapes = {name: value.shape for name, value in params.items()}
        self._sizes = [value.numel() for value in params.values()]
        self._w = torch.cat([value.reshape(-1) for value in params.values()])
        self._state = fresh_state(optimizer, self._w, [*self._shapes.values()], steps)
        self.params = self._views()

    @torch.no_grad()
    def step(self, grads: Params) -> None:
        flat = torch.cat([grad.reshape(-1) for grad in grads.values()])
        update, self._state = self._update(flat, self._w, self._state)
        self._w = self._w + update
        self.params = self._views()

    def _views(self) -> Params:
        parts = self._w.split(self._sizes)
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)}


@dataclass(frozen=True)
class Contender:
    """An optimizer that takes part, with what the tables say about it.

    Attributes:
        name: Its name in this evaluation.
        label: How it is called in tables and plots.
        kind: "baseline" (its learning rate is tuned), "rule" or "learned" (run as they are).
        subject: The rule or learned optimizer.
        lr: Learning rate it runs at; None if that is tuned, or if it has none.
        baseline: The grid to tune on, if it is tuned.
        fingerprint: Hash of everything that decides what it does, bar learning rate and schedule.
        schedule: The schedule it runs at, where that is not tuned.
    """

    name: str
    label: str
    kind: Literal["baseline", "rule", "learned"]
    subject: Rule | TorchOptimizer | LearnedOptimizer
    lr: float | None
    baseline: Baseline | None
    fingerprint: str
    schedule: str = CONSTANT

    @property
    def state_cost(self) -> float:
        """Buffers a parameter."""
        return self.subject.state_cost

    @property
    def complexity(self) -> int | None:
        """Nodes of the rule; None for a network."""
        return self.subject.complexity if isinstance(self.subject, Rule) else None

    def start(self, params: Params, lr: float | None, schedule: str, steps: int) -> Run:
        """Put the optimizer to work on ``params``.

        Args:
            params: Where it starts.
            lr: Learning rate; None is its own.
            schedule: What multiplies the learning rate; a network has none.
            steps: Length of the episode, which schedules and rules with a horizon need.
        """
        subject, given = self.subject, self.baseline
        if isinstance(subject, LearnedOptimizer):
            return LearnedRun(subject.to(next(iter(params.values())).device), params, steps)
        rate = lr if lr is not None else self.lr
        assert rate is not None
        if isinstance(subject, TorchOptimizer):
            return OptimizerRun(partial(subject.make, lr=rate), params, schedule, steps)
        baseline = given or Baseline(subject, lrs=(rate,))
        return OptimizerRun(partial(_rule_optimizer, subject, baseline, rate, steps), params, schedule, steps)


def _rule_optimizer(
    rule: Rule, baseline: Baseline, lr: float, steps: int, leaves: list[torch.nn.Parameter]
) -> RuleOptimizer:
    horizon: dict[str, Any] = {}
    if getattr(rule, "needs_total_steps", False):
        horizon["total_steps"] = steps
    if baseline.vectors is None:
        return RuleOptimizer(leaves, rule, lr=lr, weight_decay=baseline.weight_decay, **horizon)
    small = [leaf for leaf in leaves if leaf.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": [leaf for leaf in leaves if leaf.dim() >= 2]},
        {"params": small, "rule": baseline.vectors, "lr": baseline.vectors_lr * lr},
    ]
    there = [group for group in groups if group["params"]]
    return RuleOptimizer(there, rule, lr=lr, weight_decay=baseline.weight_decay, **horizon)


def contenders(
    optimizers: Mapping[str, Optimizer], baselines: Iterable[str], schedules: tuple[str, ...] = (CONSTANT,)
) -> tuple[Contender, ...]:
    """All that take part: the optimizers given, then those baselines that are not among them.

    Args:
        optimizers: By name.
        baselines: Names in `BASELINES`.
        schedules: What baselines that are given by name are tuned over, beside their learning rates.

    Raises:
        UnknownNameError, RuleError, CheckpointError: an optimizer cannot be loaded.
        OptionError: there is none, or a baseline's name is taken by another optimizer.
    """
    found = {name: _contender(name, given, schedules) for name, given in optimizers.items()}
    for name in baselines:
        if name not in BASELINES:
            load_rule(name)  # raises, naming the rules there are
            raise OptionError(f"baseline {name!r} is a rule file; pass Baseline(load_rule(...)) among the optimizers")
        contender = _contender(name, name, schedules)
        if found.setdefault(name, contender).fingerprint != contender.fingerprint:
            raise OptionError(f"optimizer {name!r} has the name of a baseline; rename it, or leave out that baseline")
    if not found:
        raise OptionError("nothing to evaluate: give at least one optimizer or baseline")
    return tuple(found.values())


def _contender(name: str, given: Optimizer, schedules: tuple[str, ...]) -> Contender:
    if isinstance(given, str) and given in BASELINES:
        label = BASELINES[given].label if name == given else name
        given = replace(BASELINES[given], label=label, schedules=schedules)
    if isinstance(given, (str, Path)):
        given = load_optimizer(given)
    if isinstance(given, Baseline):
        lr, schedule = (None, CONSTANT) if given.tuned else (given.lrs[0], given.schedules[0])
        fingerprint = _digest(_baseline_text(given).encode())
        return Contender(name, given.label, "baseline", given.rule, lr, given, fingerprint, schedule)
    if isinstance(given, Rule):
        return Contender(name, name, "rule", given, given.lr, None, _digest(_rule_text(given, 0.0).encode()))
    return Contender(name, name, "learned", given, None, None, _digest(_network_bytes(given)))


def _baseline_text(baseline: Baseline) -> str:
    if isinstance(baseline.rule, TorchOptimizer):
        return baseline.rule.identity
    text = _rule_text(baseline.rule, baseline.weight_decay)
    if baseline.vectors is None:
        return text
    return json.dumps([text, _rule_text(baseline.vectors, baseline.weight_decay), baseline.vectors_lr])


def _rule_text(rule: Rule, weight_decay: float) -> str:
    document = rule.to_dict()
    parts = [document[key] for key in ("constants", "state", "where", "update")] + [weight_decay]
    return json.dumps(parts + [document[key] for key in ("init",) if key in document])  # formats 1 are as they were


def _network_bytes(optimizer: LearnedOptimizer) -> bytes:
    parts = [type(optimizer).__qualname__.encode(), json.dumps(optimizer.describe()).encode()]
    for key, value in optimizer.state_dict().items():
        parts += [key.encode(), str((value.dtype, tuple(value.shape))).encode()]
        parts.append(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return b"\0".join(parts)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
