"""Meta-training: the unroll loop, gradient estimators, the trainer, and meta-tuning of rules.

``ESTIMATORS`` and ``OBJECTIVES`` are the tables of members. A new estimator is a subclass of ``Estimator`` in a file of
its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable

from closedform.meta_training._antithetic_es import AntitheticES
from closedform.meta_training._config import MetaTrainConfig, MetaTrainResult
from closedform.meta_training._estimator import Estimate, Estimator
from closedform.meta_training._evolve import EvolveConfig, evolve
from closedform.meta_training._flat import FlatParams
from closedform.meta_training._forward_accumulation import ForwardAccumulation
from closedform.meta_training._imitation import Imitation
from closedform.meta_training._meta_train import Progress, meta_train
from closedform.meta_training._meta_tune import TUNING, TUNING_UNROLL, meta_tune
from closedform.meta_training._metrics import read_metrics
from closedform.meta_training._objectives import OBJECTIVES, Objective
from closedform.meta_training._pes import PES
from closedform.meta_training._problem import AnyProblem, Problem, ProblemBatch
from closedform.meta_training._references import Reference, reference
from closedform.meta_training._tensorboard import tensorboard_writer
from closedform.meta_training._totals import NORMALISATIONS
from closedform.meta_training._truncated_bptt import TruncatedBPTT
from closedform.meta_training._unroll import Carry, Step, begin, run, steps

ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "truncated-bptt": TruncatedBPTT,
    "antithetic-es": AntitheticES,
    "pes": PES,
    "forward-accumulation": ForwardAccumulation,
}

__all__ = [
    "ESTIMATORS",
    "NORMALISATIONS",
    "OBJECTIVES",
    "PES",
    "TUNING",
    "TUNING_UNROLL",
    "AntitheticES",
    "AnyProblem",
    "Carry",
    "Estimate",
    "Estimator",
    "EvolveConfig",
    "FlatParams",
    "ForwardAccumulation",
    "Imitation",
    "MetaTrainConfig",
    "MetaTrainResult",
    "Objective",
    "Problem",
    "ProblemBatch",
    "Progress",
    "Reference",
    "Step",
    "TruncatedBPTT",
    "begin",
    "evolve",
    "meta_train",
    "meta_tune",
    "read_metrics",
    "reference",
    "run",
    "steps",
    "tensorboard_writer",
]
