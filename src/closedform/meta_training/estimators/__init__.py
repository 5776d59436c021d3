"""Estimators of the meta-gradient: how the meta-loss of a window changes with an optimizer's meta-parameters.

``ESTIMATORS`` is their table. A new one is a subclass of `Estimator` in a file of its own, and a line there.
"""

from __future__ import annotations

from collections.abc import Callable

from closedform.meta_training.estimators._antithetic_es import AntitheticES
from closedform.meta_training.estimators._base import Estimate, Estimator
from closedform.meta_training.estimators._bptt import TruncatedBPTT
from closedform.meta_training.estimators._evolution import copies
from closedform.meta_training.estimators._forward import ForwardAccumulation
from closedform.meta_training.estimators._imitation import Imitation
from closedform.meta_training.estimators._pes import PES

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "truncated-bptt": TruncatedBPTT,
    "antithetic-es": AntitheticES,
    "pes": PES,
    "forward-accumulation": ForwardAccumulation,
}

__all__ = [
    "ESTIMATORS",
    "PES",
    "AntitheticES",
    "Estimate",
    "Estimator",
    "ForwardAccumulation",
    "Imitation",
    "TruncatedBPTT",
    "copies",
]
