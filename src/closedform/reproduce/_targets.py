"""What the sanity check tries to recover: the paper's five targets, and further hand-designed optimizers."""

from __future__ import annotations

from dataclasses import dataclass

from closedform.rules import Rule, load_rule


@dataclass(frozen=True)
class Paper:
    """What the paper reports of a target: what was recovered, R^2, seconds."""

    recovered: str
    r2: float
    seconds: float


@dataclass(frozen=True)
class Target:
    """An update rule to recover.

    Attributes:
        name: What it is called in the table.
        rule: The truth.
        decays: The decays of its averages.
        replay: True if it is no optimizer: its updates are computed on standardised gradients that another one met.
        paper: The paper's row, if it has one.
    """

    name: str
    rule: Rule
    decays: tuple[float, ...] = ()
    replay: bool = False
    paper: Paper | None = None


def _lags() -> str:
    """The tenth lag's weight is 0."""
    return " + ".join(["g", *(f"{round(1 - 0.1 * k, 1)}*lag(g, {k})" for k in range(1, 10))])


_ROWS = (
    Target("-0.01 g", load_rule("sgd"), paper=Paper("exact", 1.0, 49)),
    Target(
        "sum of (1 - 0.1 i) g[t-i], i = 0..10",
        Rule.parse("lags", _lags()),
        replay=True,
        paper=Paper("nine terms, off by up to 0.1", 0.94, 126),
    ),
    Target(
        "g[t]^2 + g[t-1] + 2 g[t-2] + exp(g[t-4])",
        Rule.parse("mixture", "square(g) + lag(g, 1) + 2*lag(g, 2) + exp(lag(g, 4))"),
        replay=True,
        paper=Paper("with a spurious tanh", 0.98, 256),
    ),
    Target(
        "Momentum(0.6)",
        load_rule("momentum").with_constants(beta=0.6),
        (0.6,),
        paper=Paper("first five lags, an asinh", 0.97, 90),
    ),
    Target(
        "Adam(0.9, 0.9)",
        load_rule("adam").with_constants(beta2=0.9),
        (0.9, 0.9),
        paper=Paper("20-lag ratio with asinh", 0.89, 879),
    ),
    Target("RMSProp(0.99)", load_rule("rmsprop"), (0.99,)),
    Target("Nesterov(0.9)", load_rule("nesterov"), (0.9,)),
    Target("AdaBelief(0.9, 0.999)", load_rule("adabelief"), (0.9, 0.999)),
    Target("Lion(0.9, 0.99)", load_rule("lion"), (0.99,)),
    Target("Adam(0.9, 0.999)", load_rule("adam"), (0.9, 0.999)),
    Target("Adamax(0.9, 0.999)", load_rule("adamax"), (0.9, 0.999)),
    Target("AdaGrad", load_rule("adagrad")),
    Target("signed momentum(0.9)", load_rule("signum"), (0.9,)),
    Target("AdamW(0.9, 0.999)", load_rule("adamw"), (0.9, 0.999)),
    Target("AMSGrad(0.9, 0.999)", load_rule("amsgrad"), (0.9, 0.999)),
    Target("Nadam(0.9, 0.999)", load_rule("nadam"), (0.9, 0.999)),
)

TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}
