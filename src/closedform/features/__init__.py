"""Input features of learned optimizers, as fragments of programs in the rule language.

A feature is a name together with the recurrences and named values that define it. A learned optimizer computes its
inputs by `feature_program`; a distilled rule takes the same fragments along by `rule_from_features`, so it is whole by
construction. Fragments that use the same state, constant or named value share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from closedform._names import lookup
from closedform.errors import RuleError
from closedform.lang import INPUTS, Expr, Program, Symbol, lags, names, parse
from closedform.rules import Rule


@dataclass(frozen=True)
class Feature:
    """One input feature.

    Attributes:
        name: Its name in expressions and as a column; a state, a named value or an input of the fragment.
        meaning: The definition in the notation of the paper.
        source: Where it comes from.
        constants, state, where: The fragment that defines it, as in a rule file.
    """

    name: str
    meaning: str
    source: str
    constants: Mapping[str, float] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)


_RNNPROP = "Lv, Jiang & Li 2017 (RNNprop), equation 3, with b1 = b2 = 0.95"
_M, _V = {"m": "b1*m + (1 - b1)*g"}, {"v": "b2*v + (1 - b2)*square(g)"}
_M_HAT, _V_HAT = {"m_hat": "m/(1 - b1**t)"}, {"v_hat": "v/(1 - b2**t)"}
_DECAYS = {"b1": 0.95, "b2": 0.95, "eps": 1e-8}
_METZ = "Metz et al. 2022, Practical tradeoffs between memory, compute, and performance in learned optimizers"


def _momentum(decay: float) -> Feature:
    tag = f"{decay:g}".partition(".")[2]
    name, constant = f"mom{tag}", f"b{tag}"
    return Feature(
        name,
        f"m = EMA(g; {decay:g}), not bias-corrected",
        _METZ,
        {constant: decay},
        {name: f"{constant}*{name} + (1 - {constant})*g"},
    )


_V999 = {"v999": "b999*v999 + (1 - b999)*square(g)"}
_RSQRT_V999 = {"rsqrt_v999": "1/sqrt(v999 + 1e-6)"}


def _normalised(momentum: Feature) -> Feature:
    name = f"{momentum.name}_v999"
    return Feature(
        name,
        f"{momentum.name}/sqrt(v999 + 1e-6)",
        _METZ,
        {**momentum.constants, "b999": 0.999},
        {**momentum.state, **_V999},
        {**_RSQRT_V999, name: f"{momentum.name}*rsqrt_v999"},
    )


_OVER_ROOT = {"b95": 0.95, "tiny": 1e-20}
_V95 = {"v95": "b95*v95 + (1 - b95)*square(g)"}
_CELO = "Moudgil et al. 2026, Celo2 (arXiv 2602.19142), before its normalisation"


def _over_v95(momentum: Feature) -> Feature:
    name = f"{momentum.name}_v95"
    meaning = f"{momentum.name}/(sqrt(v95) + 1e-20), v95 = EMA(g^2; 0.95)"
    where = {name: f"{momentum.name}/(sqrt(v95) + tiny)"}
    return Feature(name, meaning, _CELO, {**momentum.constants, **_OVER_ROOT}, {**momentum.state, **_V95}, where)


def _time(scale: int) -> Feature:
    name = f"time{scale}"
    return Feature(name, f"tanh((t - 1)/{scale} - 1)", _METZ, where={name: f"tanh((t - 1)/{scale} - 1)"})


_ROWS = (
    Feature("g", "the gradient", "-"),
    Feature("w", "the parameter", "-"),
    Feature("steps", "t, the number of this step, from 1", "-", where={"steps": "t"}),
    Feature(
        "m_tilde",
        "m~ = m^/(sqrt(v^) + eps), with m = EMA(g; b1), v = EMA(g^2; b2), bias-corrected",
        _RNNPROP,
        _DECAYS,
        {**_M, **_V},
        {**_M_HAT, **_V_HAT, "m_tilde": "m_hat/(sqrt(v_hat) + eps)"},
    ),
    Feature(
        "g_tilde",
        "g~ = g/(sqrt(v^) + eps)",
        _RNNPROP,
        {"b2": 0.95, "eps": 1e-8},
        _V,
        {**_V_HAT, "g_tilde": "g/(sqrt(v_hat) + eps)"},
    ),
    Feature(
        "n_tilde",
        "n~ = m^/(EMA(|g|^3; b2)^(1/3) + eps), bias-corrected",
        "Zheng et al. 2022, RP_si; exponent 3 of its code's extra inputs",
        _DECAYS,
        {**_M, "n": "b2*n + (1 - b2)*cube(abs(g))"},
        {**_M_HAT, "n_hat": "n/(1 - b2**t)", "n_tilde": "m_hat/(spow(n_hat, 1/3) + eps)"},
    ),
    *(_momentum(decay) for decay in (0.5, 0.9, 0.99, 0.999)),
    Feature("v999", "v = EMA(g^2; 0.999), not bias-corrected", _METZ, {"b999": 0.999}, _V999),
    Feature("rsqrt_v999", "1/sqrt(v999 + 1e-6)", _METZ, {"b999": 0.999}, _V999, _RSQRT_V999),
    *(_normalised(_momentum(decay)) for decay in (0.9, 0.99, 0.999)),
    *(_over_v95(row) for row in (Feature("g", "", "-"), *(_momentum(decay) for decay in (0.9, 0.99, 0.999)))),
    Feature("progress", "t/T, the share of the episode that is over with this step", "-"),
    Feature("remaining", "1 - t/T", "-", where={"remaining": "1 - progress"}),
    *(_time(scale) for scale in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)),
    Feature(
        "log_g",
        "log|g|/p, at least -1, p = 10",
        "Andrychowicz et al. 2016, appendix A, first of the preprocessed pair",
        {"p": 10.0},
        where={"log_g": "max(log(abs(g))/p, -1)"},
    ),
    Feature(
        "sign_g",
        "sign(g) where |g| >= e^-p, else e^p g, p = 10",
        "Andrychowicz et al. 2016, appendix A, second of the preprocessed pair",
        {"p": 10.0},
        where={"sign_g": "clip(exp(p)*g, -1, 1)"},
    ),
)

FEATURES: dict[str, Feature] = {row.name: row for row in _ROWS}


def get(name: str) -> Feature:
    """The feature of that name.

    Raises:
        UnknownNameError: there is none; suggests the nearest.
    """
    return lookup("feature", name, FEATURES)


def define(
    name: str,
    expression: str,
    *,
    state: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    meaning: str = "",
    source: str = "one's own",
) -> Feature:
    """Add a feature by an expression, for this process: networks, recordings and distilling then take it by name.

        features.define("ratio", "mine/(abs(g) + 1e-8)", state={"mine": "0.9*mine + 0.1*g"})

    Args:
        name: Its name.
        expression: Over g, w, t, the states, and constants; as in a rule file.
        state: Recurrences by name. Two features share what they define alike.
        constants: Numbers by name.
        meaning: What it is; by default the expression.
        source: Where it comes from.

    Raises:
        RuleError: the expression is malformed, or there is another feature of that name.
    """
    found = Feature(name, meaning or expression, source, dict(constants or {}), dict(state or {}), {name: expression})
    if FEATURES.get(name, found) != found:
        raise RuleError(f'there is another feature "{name}" already: choose another name')
    _program([found])
    FEATURES[name] = found
    return found


def feature_program(columns: Iterable[str]) -> Program:
    """The program whose outputs are the named features, in order.

    Args:
        columns: Feature names.

    Raises:
        UnknownNameError: no such feature.
    """
    return _program([get(name) for name in columns])


def _program(fragments: Sequence[Feature]) -> Program:
    merged = _merge(fragments)
    outputs: dict[str, Expr] = {fragment.name: Symbol(fragment.name) for fragment in fragments}
    return Program(merged["constants"], _parsed(merged["state"]), _parsed(merged["where"]), outputs)


def rule_from_features(
    name: str,
    update: Expr,
    columns: Iterable[str],
    *,
    constants: Mapping[str, float] | None = None,
    lr: float = 1.0,
    provenance: Mapping[str, Any] | None = None,
) -> Rule:
    """A whole rule from an expression over feature columns: the features' recurrences come along.

    Args:
        name: The rule's name.
        update: Expression over the columns, their lags, and ``constants``.
        columns: Features that the expression may use; those it does not use are left out.
        constants: The expression's own named constants.
        lr: Default learning rate.
        provenance: Where the rule comes from.

    Raises:
        RuleError: a constant's name clashes with a name in a feature's fragment.
        UnknownNameError: no such feature.
    """
    used = names(update) | set(lags(update))
    needed = [get(column) for column in columns if column in used]
    merged = _merge(needed)
    own = dict(constants or {})
    for clash in own.keys() & {*merged["constants"], *merged["state"], *merged["where"], *INPUTS}:
        raise RuleError(f'rule "{name}": constant "{clash}" has the name of a part of a feature; rename it')
    program = Program(
        {**merged["constants"], **own}, _parsed(merged["state"]), _parsed(merged["where"]), {"update": update}
    )
    return Rule(name, program.live, lr, dict(provenance or {}))


def _parsed(section: Mapping[str, str]) -> dict[str, Expr]:
    return {name: parse(text) for name, text in section.items()}


def _merge(fragments: Iterable[Feature]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {"constants": {}, "state": {}, "where": {}}
    for fragment in fragments:
        for section, entries in merged.items():
            for key, value in getattr(fragment, section).items():
                if entries.setdefault(key, value) != value:
                    raise RuleError(f'feature "{fragment.name}" defines {section} "{key}" differently from another')
    return merged


__all__ = ["FEATURES", "Feature", "define", "feature_program", "get", "rule_from_features"]
