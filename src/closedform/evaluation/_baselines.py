"""Hand-designed optimizers to compare with, and the learning rates and schedules that are tried for each.

Grids are log-spaced with three values a decade, over four decades around what each rule needs; where the best value
lies at an edge the grid is extended (`closedform.evaluation.evaluate`), so a grid only says where the search starts.

A schedule multiplies the learning rate before every update, as torch's schedulers do. `cosine` is torch's `LinearLR`
for the warm-up and then its `CosineAnnealingLR`; the last update still moves, zero would come right after it.

References:
    I. Loshchilov, F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, equation 5.
    A. Defazio et al., "Optimal linear decay learning rate schedules and further refinements", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from closedform._names import lookup
from closedform._options import check_count, check_number, check_positive
from closedform.errors import OptionError
from closedform.evaluation._torch_optimizers import TorchOptimizer
from closedform.rules import Rule, load_rule

WARM_UP = 0.05
"""Share of the steps over which a learning rate rises to its full size."""

Schedule = Callable[[int, int], float]
"""Takes the updates made so far and those there will be; gives the factor of the next."""


def _constant(done: int, steps: int) -> float:
    return 1.0


def _warm_up(done: int, steps: int) -> float:
    rising = warm_up_steps(steps)
    return min(1.0, (done + 1) / rising) if rising else 1.0


def _cosine(done: int, steps: int) -> float:
    return _warm_up(done, steps) * 0.5 * (1 + math.cos(math.pi * _progress(done, steps)))


def _linear(done: int, steps: int) -> float:
    return _warm_up(done, steps) * (1 - _progress(done, steps))


def _progress(done: int, steps: int) -> float:
    """Share of the steps after the warm-up that are done."""
    rising = warm_up_steps(steps)
    return max(0, done - rising) / (steps - rising)


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "warm-up": _warm_up,
    "cosine": _cosine,
    "linear": _linear,
}
"""By name: constant; warm-up, then constant; warm-up, then cosine to zero; warm-up, then linear to zero."""


def warm_up_steps(steps: int) -> int:
    """Updates over which the learning rate rises."""
    return round(WARM_UP * steps)


def check_schedules(names: Sequence[str]) -> None:
    """Raise UnknownNameError or OptionError unless ``names`` are schedules to try, each once."""
    for name in names:
        lookup("schedule", name, SCHEDULES)
    if not names or len(set(names)) < len(names):
        raise OptionError(f"schedules must be one or more different names of {', '.join(SCHEDULES)}, not {names!r}")


def log_grid(low: int, high: int, per_decade: int = 3) -> tuple[float, ...]:
    """Values from 10**low to 10**high, evenly spaced in the logarithm, rounded to four digits."""
    points = range(low * per_decade, high * per_decade + 1)
    return tuple(float(f"{10 ** (point / per_decade):.4g}") for point in points)


@dataclass(frozen=True)
class Baseline:
    """An optimizer whose learning rate and schedule are tuned before it is compared.

    Attributes:
        rule: The rule, or any torch optimizer (`from_torch`).
        label: How it is called in tables and plots.
        lrs: Learning rates to try, increasing. One alone, with one schedule, is run as it is: nothing is tuned.
        weight_decay: Decoupled weight decay that `RuleOptimizer` adds.
        schedules: Names in `SCHEDULES` to try, each at all learning rates.
        extensions: How often the grid may be extended by a decade past its edge; None leaves it to the evaluation, 0
            keeps to the budget of ``trials``.
        vectors: The rule of tensors with fewer than two dimensions; None: the same.
        vectors_lr: Their learning rate, as a multiple of that of the others.

    Raises:
        OptionError: the learning rates or schedules make no sense.
        UnknownNameError: there is no schedule of a name.
    """

    rule: Rule | TorchOptimizer
    label: str = field(default="")
    lrs: tuple[float, ...] = log_grid(-4, 0)
    weight_decay: float = 0.0
    schedules: tuple[str, ...] = ("constant",)
    extensions: int | None = None
    vectors: Rule | None = None
    vectors_lr: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.rule.name)
        check_number(f"baseline {self.label!r}: weight_decay", self.weight_decay, least=0)
        check_positive(f"baseline {self.label!r}: vectors_lr", self.vectors_lr)
        if self.extensions is not None:
            check_count(f"baseline {self.label!r}: extensions", self.extensions, least=0)
        for lr in self.lrs:
            check_positive(f"baseline {self.label!r}: each of lrs", lr)
        if not self.lrs or sorted(set(self.lrs)) != list(self.lrs):
            raise OptionError(f"baseline {self.label!r}: lrs must be one or more increasing positive numbers")
        if isinstance(self.rule, TorchOptimizer) and (self.weight_decay or self.vectors):
            raise OptionError(f"baseline {self.label!r}: weight_decay and vectors are for rules alone")
        check_schedules(self.schedules)

    @classmethod
    def from_torch(
        cls,
        factory: Callable[..., torch.optim.Optimizer],
        label: str = "",
        lrs: tuple[float, ...] = log_grid(-4, 0),
        *,
        schedules: tuple[str, ...] = ("constant",),
        extensions: int | None = None,
        **options: Any,
    ) -> Baseline:
        """Any torch optimizer: ``factory(parameters, lr=lr, **options)``.

        Raises:
            OptionError: as the class; or the factory is a lambda or the like, without a name of its own.

        Example:
            >>> Baseline.from_torch(torch.optim.SGD, momentum=0.9).label
            'SGD'
        """
        made = TorchOptimizer(factory, tuple(sorted(options.items())))
        return cls(made, label, lrs, schedules=schedules, extensions=extensions)

    @property
    def tuned(self) -> bool:
        """Whether there is anything to choose from."""
        return len(self.lrs) * len(self.schedules) > 1

    @property
    def trials(self) -> int:
        """Learning rates times schedules, before any extension."""
        return len(self.lrs) * len(self.schedules)


@dataclass(frozen=True)
class _Row:
    label: str
    low: int
    high: int


_ROWS = {
    "sgd": _Row("SGD", -3, 1),
    "momentum": _Row("Momentum", -4, 0),
    "nesterov": _Row("Nesterov", -4, 0),
    "rmsprop": _Row("RMSProp", -5, -1),
    "adagrad": _Row("AdaGrad", -4, 0),
    "adadelta": _Row("AdaDelta", -2, 2),
    "adam": _Row("Adam", -5, -1),
    "adamw": _Row("AdamW", -5, -1),
    "adamax": _Row("AdaMax", -5, -1),
    "nadam": _Row("NAdam", -5, -1),
    "radam": _Row("RAdam", -5, -1),
    "amsgrad": _Row("AMSGrad", -5, -1),
    "adabelief": _Row("AdaBelief", -5, -1),
    "lamb": _Row("LAMB", -4, 0),
    "lion": _Row("Lion", -6, -2),
    "signum": _Row("Signum", -6, -2),
}

BASELINES: dict[str, Baseline] = {
    name: Baseline(load_rule(name), row.label, log_grid(row.low, row.high)) for name, row in _ROWS.items()
}
"""Library rules by name, with the learning rates to try."""

DEFAULT_BASELINES = ("sgd", "momentum", "rmsprop", "adam")
