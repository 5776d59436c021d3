"""Who takes part in the table of unseen tasks, and what each may try."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from closedform._names import lookup
from closedform.errors import OptionError
from closedform.evaluation import Baseline, log_grid
from closedform.rules import Rule, library_names, load_rule

REFERENCE, SINGLE = "adamw-cosine", "adamw-cosine-single"
RULE, THREE, OTHER = "rule", "rule, 3 rates", "baseline"
"""Kinds of entrants beside the references: a rule as it is, a rule with three rates tried, another baseline."""
THIRDS = (1 / 3, 1.0, 3.0)
SHIPPED = "cf1"
"""The library's learned rule, that the table is about where there is one."""


@dataclass(frozen=True)
class Entrant:
    """One that takes part.

    Attributes:
        name, label: How it is called in files, and in tables.
        kind: The reference, the reference at a single rate, or one of the kinds above.
        subject: What is run: a rule as it is, or what is tuned.
    """

    name: str
    label: str
    kind: str
    subject: Rule | Baseline


def reference(rates: tuple[float, ...]) -> Entrant:
    """AdamW with warm-up and cosine, tuned for each task."""
    adamw = load_rule("adamw")
    tuned = Baseline(adamw, "AdamW-cosine, tuned for each task", rates, schedules=("cosine",))
    return Entrant(REFERENCE, tuned.label, REFERENCE, tuned)


def at_single_rate(lr: float) -> Entrant:
    """AdamW with warm-up and cosine at one rate for all tasks."""
    label = f"AdamW-cosine at {lr:g}, best single rate"
    return Entrant(SINGLE, label, SINGLE, Baseline(load_rule("adamw"), label, (lr,), schedules=("cosine",)))


def of_rule(name: str, rule: Rule) -> tuple[Entrant, Entrant]:
    """A rule as it is, and the same with three learning rates tried for each task."""
    rates = tuple(rule.lr * factor for factor in THIRDS)
    three = Baseline(rule, f"{name}, 3 rates", rates, extensions=0)
    return (
        Entrant(name, f"{name}, untuned", RULE, rule),
        Entrant(f"{name}-three", three.label, THREE, three),
    )


def _annealed(rule: str, label: str, low: int, high: int, **more: object) -> Callable[[], Baseline]:
    def make() -> Baseline:
        tuned = Baseline(load_rule(rule), f"{label}, cosine", log_grid(low, high, 2), schedules=("cosine",))
        return replace(tuned, extensions=0, **more)  # type: ignore[arg-type]

    return make


def _schedule_free() -> Baseline:
    """At a constant learning rate, which the rule's form is for; the loss is at y, where gradients are taken."""
    rule = load_rule("schedulefree-adamw")
    return Baseline(rule, "Schedule-Free AdamW", log_grid(-4, -1, 2), extensions=0)


def _muon() -> Baseline:
    """Matrices and convolutions by Muon, vectors by AdamW at a tenth of its learning rate."""
    return replace(_annealed("muon", "Muon", -3, 0)(), vectors=load_rule("adamw"), vectors_lr=0.1)


def _prodigy() -> Baseline:
    if importlib.util.find_spec("prodigyopt") is None:
        raise OptionError("prodigy needs the package prodigyopt: pip install prodigyopt, or leave it out")
    factory = importlib.import_module("prodigyopt").Prodigy
    rates = (0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0)
    return Baseline.from_torch(factory, "Prodigy, cosine", rates, schedules=("cosine",), extensions=0)


OTHERS: dict[str, Callable[[], Baseline]] = {
    "momentum": _annealed("momentum", "SGD with momentum", -3, 0),
    "adam": _annealed("adam", "Adam", -4, -1),
    "lion": _annealed("lion", "Lion", -5, -2),
    "schedulefree-adamw": _schedule_free,
    "muon": _muon,
    "prodigy": _prodigy,
}
"""Other baselines, each with seven learning rates and no extension of the grid."""


def chosen(names: Sequence[str] | None) -> list[Entrant]:
    """The entrants beside the references.

    Args:
        names: Of `OTHERS`, else a library rule or a rule file, run untuned and with three rates; None: the shipped rule
            and all other baselines, as far as this installation has them.

    Raises:
        UnknownNameError, RuleError: there is no such rule.
        OptionError: a baseline's package is missing.
    """
    found: list[Entrant] = []
    for name in _installed() if names is None else names:
        if name in OTHERS:
            baseline = OTHERS[name]()
            found.append(Entrant(name, baseline.label, OTHER, baseline))
        else:
            path = Path(name)
            if path.suffix != ".json":
                lookup("entrant", name, dict.fromkeys([*OTHERS, *library_names()]))
            found += of_rule(path.stem if path.suffix == ".json" else name, load_rule(name))
    return found


def _installed() -> list[str]:
    rules = set(library_names())
    shipped = [SHIPPED] if SHIPPED in rules else []
    prodigy = ["prodigy"] if importlib.util.find_spec("prodigyopt") is not None else []
    return [*shipped, *(name for name in OTHERS if name in rules), *prodigy]
