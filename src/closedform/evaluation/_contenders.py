"""What can be compared, and how each kind is run on an optimizee.

A rule runs through `RuleOptimizer` on real parameters, the path that its user takes; a learned optimizer through its
pure interface over one flat vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import torch

from closedform.errors import OptionError
from closedform.evaluation._baselines import BASELINES, Baseline
from closedform.learned_optimizers import LearnedOptimizer, load_optimizer
from closedform.optim import RuleOptimizer
from closedform.rules import Rule, load_rule
from closedform.tasks import Params

Optimizer: TypeAlias = Rule | Baseline | LearnedOptimizer | str | Path


class Run(Protocol):
    """One optimizer at work on one set of parameters."""

    params: Params

    def step(self, grads: Params) -> None:
        """Move ``params`` by one update."""


class RuleRun:
    """A rule at work, through `RuleOptimizer`."""

    def __init__(self, rule: Rule, weight_decay: float, params: Params, lr: float) -> None:
        self._leaves = [torch.nn.Parameter(value) for value in params.values()]
        self.params: Params = dict(zip(params, self._leaves, strict=True))
        self._optimizer = RuleOptimizer(self._leaves, rule, lr=lr, weight_decay=weight_decay)

    def step(self, grads: Params) -> None:
        for leaf, grad in zip(self._leaves, grads.values(), strict=True):
            leaf.grad = grad
        self._optimizer.step()


class LearnedRun:
    """A learned optimizer at work, through its pure interface."""

    def __init__(self, optimizer: LearnedOptimizer, params: Params) -> None:
        with torch.no_grad():
            self._update = optimizer.bind()
        self._shapes = {name: value.shape for name, value in params.items()}
        self._sizes = [value.numel() for value in params.values()]
        self._w = torch.cat([value.reshape(-1) for value in params.values()])
        self._state = optimizer.init_state(self._w, [*self._shapes.values()])
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
        fingerprint: Hash of everything that decides what it does, bar the learning rate.
    """

    name: str
    label: str
    kind: str
    subject: Rule | LearnedOptimizer
    lr: float | None
    baseline: Baseline | None
    fingerprint: str

    @property
    def state_cost(self) -> float:
        """Buffers a parameter."""
        return self.subject.state_cost

    @property
    def complexity(self) -> int | None:
        """Nodes of the rule; None for a network."""
        return self.subject.complexity if isinstance(self.subject, Rule) else None

    def start(self, params: Params, lr: float | None) -> Run:
        """Put the optimizer to work on ``params``, at learning rate ``lr`` (None: its own)."""
        if isinstance(self.subject, Rule):
            weight_decay = self.baseline.weight_decay if self.baseline else 0.0
            return RuleRun(self.subject, weight_decay, params, self.subject.lr if lr is None else lr)
        device = next(iter(params.values())).device
        return LearnedRun(self.subject.to(device), params)


def contenders(optimizers: Mapping[str, Optimizer], baselines: Iterable[str]) -> tuple[Contender, ...]:
    """All that take part: the optimizers given, then those baselines that are not among them.

    Raises:
        UnknownNameError, RuleError, CheckpointError: an optimizer cannot be loaded.
        OptionError: there is none, or a baseline's name is taken by another optimizer.
    """
    found = {name: _contender(name, given) for name, given in optimizers.items()}
    for name in baselines:
        if name not in BASELINES:
            load_rule(name)  # raises, naming the rules there are
            raise OptionError(f"baseline {name!r} is a rule file; pass Baseline(load_rule(...)) among the optimizers")
        contender = _contender(name, name)
        if found.setdefault(name, contender).fingerprint != contender.fingerprint:
            raise OptionError(f"optimizer {name!r} has the name of a baseline; rename it, or leave out that baseline")
    if not found:
        raise OptionError("nothing to evaluate: give at least one optimizer or baseline")
    return tuple(found.values())


def _contender(name: str, given: Optimizer) -> Contender:
    if isinstance(given, str) and given in BASELINES:
        label = BASELINES[given].label if name == given else name
        given = Baseline(BASELINES[given].rule, label, BASELINES[given].lrs)
    if isinstance(given, (str, Path)):
        given = load_optimizer(given)
    if isinstance(given, Baseline):
        text = _rule_text(given.rule, given.weight_decay)
        return Contender(name, given.label, "baseline", given.rule, None, given, _digest(text.encode()))
    if isinstance(given, Rule):
        return Contender(name, name, "rule", given, given.lr, None, _digest(_rule_text(given, 0.0).encode()))
    return Contender(name, name, "learned", given, None, None, _digest(_network_bytes(given)))


def _rule_text(rule: Rule, weight_decay: float) -> str:
    document = json.loads(rule.to_json())
    return json.dumps([document[key] for key in ("constants", "state", "where", "update")] + [weight_decay])


def _network_bytes(optimizer: LearnedOptimizer) -> bytes:
    parts = [type(optimizer).__qualname__.encode(), json.dumps(optimizer.describe()).encode()]
    for key, value in optimizer.state_dict().items():
        parts += [key.encode(), str((value.dtype, tuple(value.shape))).encode()]
        parts.append(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return b"\0".join(parts)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
