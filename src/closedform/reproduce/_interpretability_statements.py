"""What the paper says about its table, as statements that can fail.

Each says that a quantity of one model is larger than that of another. Networks of one seed are compared with one
another (they start alike, and see the same episodes): over seeds, the logarithm of their ratio has a mean with a
Student interval. The statement holds if all of the interval is on its side, it does not if all is on the other, and
otherwise it is undecided.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from closedform.reproduce._interpretability_measures import GRADIENT, NEAR, Measured
from closedform.reproduce._interpretability_models import MODELS, Model

CONFIDENCE = 0.95
HOLDS, FAILS, UNDECIDED = "holds", "does not", "undecided"


@dataclass(frozen=True)
class Statement:
    """A claim, and what became of it.

    Attributes:
        finding: Of the paper, which it is part of.
        quantity: What is compared.
        larger, smaller: The models of which it says so.
        paper: The ratio in the paper's table; None where it reports none.
        ratios: Ours, a seed each; None where it is no number.
        mean, low, high: Geometric mean of the ratios, and its interval; None if there is none.
    """

    finding: str
    quantity: str
    larger: str
    smaller: str
    paper: float | None
    ratios: tuple[float | None, ...]
    mean: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """``holds``, ``does not`` or ``undecided``."""
        if self.low is not None and self.low > 1:
            return HOLDS
        return FAILS if self.high is not None and self.high < 1 else UNDECIDED

    @property
    def agreeing(self) -> int:
        """Seeds on its side."""
        return sum(ratio is not None and ratio > 1 for ratio in self.ratios)


@dataclass(frozen=True)
class _Quantity:
    name: str
    ours: Callable[[Measured, Measured], float | None]
    paper: Callable[[Model, Model], float | None]


def _features(one: Measured, other: Measured) -> float | None:
    """Geometric mean of the perception fields of the inputs that both have; of its own, where they share none."""
    return _geometric([one.fields[name].tpf for name in _inputs(one, other)])


def _near(one: Measured, other: Measured) -> float | None:
    """The same of the last steps alone."""
    return _geometric([one.fields[name].near for name in _inputs(one, other)])


def _inputs(one: Measured, other: Measured) -> list[str]:
    own = [name for name in one.fields if name != GRADIENT]
    return [name for name in own if name in other.fields] or own


def _gradient(one: Measured, _: Measured) -> float | None:
    return one.fields[GRADIENT].tpf


def _mc(one: Measured, _: Measured) -> float | None:
    return float(one.mc)


def _geometric(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value) and value > 0]
    return statistics.geometric_mean(known) if known and len(known) == len(values) else None


def _paper_field(larger: Model, smaller: Model) -> float:
    """The ratio in the paper's table, of the features that both have: those come first."""
    alike = (larger.network == "dm") == (smaller.network == "dm")
    shared = min(len(larger.tpf), len(smaller.tpf)) if alike else None
    return statistics.geometric_mean(larger.tpf[:shared]) / statistics.geometric_mean(smaller.tpf[:shared])


FEATURES = _Quantity("TPF of the features", _features, _paper_field)
CLOSE = _Quantity(f"TPF of the features, last {NEAR} steps", _near, _paper_field)
RAW = _Quantity("TPF of the gradient", _gradient, lambda larger, smaller: None)
COMPLEXITY = _Quantity("MC", _mc, lambda larger, smaller: larger.mc / smaller.mc)
FIELDS = (FEATURES, CLOSE, RAW)
SHRINKS = "the perception field shrinks with more or better features"
LENGTHEN = "curriculum and imitation lengthen it"
SIMPLER = "mappings are simpler from better inputs"
HARDER = "curriculum and imitation make mappings more complex"
CLAIMS: tuple[tuple[str, str, str, tuple[_Quantity, ...]], ...] = (
    (SHRINKS, "DM", "RP", FIELDS),
    (SHRINKS, "RP", "RP_si", FIELDS),
    (SHRINKS, "RP_s", "RP_si", FIELDS),
    (LENGTHEN, "DM+CL+IL", "DM", FIELDS),
    (LENGTHEN, "RP+CL+IL", "RP", FIELDS),
    (SIMPLER, "DM", "RP", (COMPLEXITY,)),
    (SIMPLER, "RP", "RP_s", (COMPLEXITY,)),
    (SIMPLER, "RP_s", "RP_si", (COMPLEXITY,)),
    (HARDER, "DM+CL+IL", "DM", (COMPLEXITY,)),
    (HARDER, "RP+CL+IL", "RP", (COMPLEXITY,)),
)
"""Finding, the model said to have more, the other, quantities."""


def statements(found: Sequence[Measured]) -> tuple[Statement, ...]:
    """All claims, tested on the networks that were measured."""
    by_model = {name: {one.seed: one for one in found if one.model == name} for name in MODELS}
    return tuple(
        _tested(finding, quantity, (larger, by_model[larger]), (smaller, by_model[smaller]))
        for finding, larger, smaller, quantities in CLAIMS
        for quantity in quantities
    )


def _tested(
    finding: str,
    quantity: _Quantity,
    larger: tuple[str, Mapping[int, Measured]],
    smaller: tuple[str, Mapping[int, Measured]],
) -> Statement:
    pairs = [(larger[1][seed], smaller[1][seed]) for seed in sorted(larger[1].keys() & smaller[1].keys())]
    ratios = tuple(_ratio(quantity.ours(one, other), quantity.ours(other, one)) for one, other in pairs)
    return Statement(
        finding,
        quantity.name,
        larger[0],
        smaller[0],
        quantity.paper(MODELS[larger[0]], MODELS[smaller[0]]),
        ratios,
        *spread(ratios),
    )


def _ratio(one: float | None, other: float | None) -> float | None:
    known = all(value is not None and math.isfinite(value) and value > 0 for value in (one, other))
    return one / other if known and one is not None and other is not None else None


def spread(ratios: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Geometric mean of ratios and its Student interval; the mean alone of one, nothing if one is no number."""
    if not ratios or any(ratio is None for ratio in ratios):
        return None, None, None
    logs = [math.log(ratio) for ratio in ratios if ratio is not None]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None, None
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)
