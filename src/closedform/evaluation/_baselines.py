"""Hand-designed optimizers to compare with, and the learning rates that are tried for each.

Grids are log-spaced with three values a decade, over four decades around what each rule needs; where the best value
lies at an edge the grid is extended (`closedform.evaluation.evaluate`), so a grid only says where the search starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from closedform._options import check_number, check_positive
from closedform.errors import OptionError
from closedform.rules import Rule, load_rule


def log_grid(low: int, high: int, per_decade: int = 3) -> tuple[float, ...]:
    """Values from 10**low to 10**high, evenly spaced in the logarithm, rounded to four digits."""
    points = range(low * per_decade, high * per_decade + 1)
    return tuple(float(f"{10 ** (point / per_decade):.4g}") for point in points)


@dataclass(frozen=True)
class Baseline:
    """A rule whose learning rate is tuned before it is compared.

    Attributes:
        rule: The rule.
        label: How it is called in tables and plots.
        lrs: Learning rates to try, increasing, at least two.
        weight_decay: Decoupled weight decay that `RuleOptimizer` adds.
    """

    rule: Rule
    label: str = field(default="")
    lrs: tuple[float, ...] = log_grid(-4, 0)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.rule.name)
        check_number(f"baseline {self.label!r}: weight_decay", self.weight_decay, least=0)
        for lr in self.lrs:
            check_positive(f"baseline {self.label!r}: each of lrs", lr)
        if len(self.lrs) < 2 or sorted(set(self.lrs)) != list(self.lrs):
            raise OptionError(f"baseline {self.label!r}: lrs must be two or more increasing positive numbers")


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
