"""A fitted design in words: the known optimizer that it is nearest to, and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from closedform.distillation.designs._design import CHOICES, Design

_HATS = {"hat_m": "own", "hat_v": "own"}
NAMED: dict[str, Design] = {
    "SGD": Design(above="x"),
    "SGD with momentum": Design(),
    "SGD with Nesterov's momentum": Design(above="m+x"),
    "signed momentum": Design(form="signs"),
    "Lion": Design(above="m+x", form="signs"),
    "RMSProp": Design(above="x", below="mean"),
    "Adagrad": Design(above="x", below="sum"),
    "Adadelta": Design(above="x", below="deltas"),
    "Adam": Design(below="mean", **_HATS),
    "Adam without corrections for the start": Design(below="mean"),
    "Adamax": Design(below="peak", hat_m="own"),
    "Nadam": Design(below="mean", hat_v="own", schedule="nadam"),
    "Rprop": Design(above="x", schedule="resilient"),
    "MADGRAD": Design(above="x", schedule="dual"),
}
"""Designs with names of their own; what others add to one of these is told."""
_ADDED: dict[str, dict[str, str]] = {
    "x": {
        "g": "of the plain gradient",
        "fast": "with a slow average of the gradient added to it (Grokfast)",
        "fast from g": "with a slow average of the gradient added to it, from the first gradient on (Grokfast)",
        "decayed": "with coupled weight decay",
        "unit": "of the gradient over its tensor's norm",
        "trusted": "of the gradient in units of the parameters' norm",
        "trusted matrices": "of the gradient in units of the parameters' norm, but for vectors (LARS)",
    },
    "above": {
        "m": "with an average of the gradient",
        "x": "without an average of the gradient",
        "m+x": "with the gradient beside its average (Nesterov)",
        "m+m": "with two averages of the gradient (AdEMAMix)",
        "m+d": "with an average of the gradient's differences (Adan)",
        "pair": "with averages of every second step (positive-negative momentum)",
    },
    "inside": {
        "": "averaged before the division",
        "divided": "averaged after the division (LaProp)",
        "clipped": "averaged after the division, which is clipped by a power of t - 1 (ADOPT)",
        "clipped t": "averaged after the division, which is clipped by a power of t (ADOPT)",
        "weighted": "averaged with a power of the second moment as weight (AdamG)",
    },
    "below": {
        "": "not divided",
        "mean": "divided by the root of an average of squares",
        "spread": "the second moment about the average (AdaBelief)",
        "top": "the largest second moment so far (AMSGrad)",
        "sum": "the second moment summed (Adagrad)",
        "abs": "divided by an average of sizes",
        "peak": "divided by a decaying peak of sizes (Adamax)",
        "yogi": "Yogi's second moment",
        "signed": "Ano's second moment",
        "ahead": "the second moment of the gradient looking ahead (Adan)",
        "deltas": "Adadelta's second moments",
        "conditional": "BCOS's second moment",
        "conditioned": "BCOS's second moment, of the new average",
        "smooth": "a second moment whose decay follows the parameter's way (AdaSmooth)",
        "sums": "Kate's sums",
        "tensor": "divided by the root of an average of the tensor's squared norm (NovoGrad)",
    },
    "tensor": {
        "": "each coordinate by itself",
        "trusted": "in units of the parameters' norm (LAMB)",
        "trusted late": "in units of the parameters' norm and then corrected for the start (LAMB)",
        "clipped": "clipped by its root mean square in each tensor (Adafactor)",
        "clipped by g": "smaller where a tensor's gradients are larger than their average (StableAdamW)",
    },
    "late": {"": "by the new second moment", "late": "by the last step's second moment (ADOPT)"},
    "hat_m": {
        "": "the average not corrected for the start",
        "own": "the average corrected for the start",
        "other": "the average corrected for the start, by the second moment's decay",
    },
    "hat_v": {"": "the second moment not corrected for the start", "own": "the second moment corrected for the start"},
    "floor": {
        "outside": "eps beside the root",
        "inside": "eps under the root",
        "early": "eps beside the root before the correction",
        "both": "eps under the root and beside it, before the correction",
        "max": "the root at least eps",
    },
    "root": {"": "the square root", "free": "another power than the root (Padam)"},
    "form": {
        "": "as it is",
        "signs": "its sign",
        "size": "its size with the gradient's sign (Grams)",
        "agreeing": "only where it agrees with the gradient's sign (cautious)",
        "sign": "the gradient's size with its sign (Ano)",
        "friction": "with friction by the gradient's change (diffGrad)",
        "bounded": "with rates bounded ever closer (AdaBound)",
        "moderated": "with rates no larger than their average (AdaMod)",
        "trusted": "as far as the variance lets trust it (M-SVAG)",
    },
    "schedule": {
        "": "without a schedule",
        "rectified": "rectified, with plain steps at first (RAdam)",
        "held": "rectified, with none at first (RAdam)",
        "nadam": "Nadam's schedule of the momentum",
        "power": "times a power of t",
        "averaged": "of averaged parameters (schedule-free)",
        "dual": "by dual averaging (MADGRAD)",
        "inverse": "from multiplication to division (DualAdam)",
        "resilient": "steps that grow until the sign turns (Rprop)",
    },
    "w": {
        "": "without weight decay",
        "w": "with decoupled weight decay",
        "centre": "pulled to the parameter's average (FOCUS)",
    },
}
"""What a choice adds, in words; of the plain ones, what they take away."""
_CONSTANTS = {
    "d_m": "decay of the average",
    "d_b": "decay of the slow average",
    "d_s": "decay of the average added",
    "d_d": "decay of the differences",
    "d_v": "decay of the second moment",
    "d_e": "decay of the weights",
    "d_r": "decay of the rates",
    "d_w": "decay of the parameter's average",
    "k_w": "weight decay",
    "k_u": "share of the norm",
    "k_c": "largest root mean square",
    "eps": "eps",
    "p": "power",
    "p_t": "power of t",
}
"""Constants that are told, in this order."""
assert all(set(_ADDED[name]) == set(kinds) for name, kinds in CHOICES.items())


def in_words(design: Design, constants: Mapping[str, float], weights: Sequence[float]) -> str:
    """One line: a known optimizer, what differs, and constants.

    Args:
        design: The design.
        constants: Its constants, by their names in its program.
        weights: Of its terms, which end with the parameter's where there is weight decay.
    """
    name = min(NAMED, key=lambda known: len(_differences(design, NAMED[known])))
    added = [_ADDED[choice][getattr(design, choice)] for choice in _differences(design, NAMED[name])]
    told = [f"{words} {constants[key]:.6g}" for key, words in _CONSTANTS.items() if key in constants]
    if design.w == "w" and not design.tensor:
        told.append(f"{-weights[-1]:.6g} of the parameter taken off in each step")
    return "; ".join([", ".join([name, *added]), *([", ".join(told)] if told else [])])


def _differences(design: Design, known: Design) -> list[str]:
    return [one.name for one in fields(design) if getattr(design, one.name) != getattr(known, one.name)]
