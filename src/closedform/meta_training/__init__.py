"""Meta-training: the unroll loop, gradient estimators, the trainer, and meta-tuning of rules.

``ESTIMATORS`` and ``OBJECTIVES`` are the tables of members. A new estimator is a subclass of ``Estimator`` in a file of
its own, and a line here.
"""

from __future__ import annotations

from closedform._progress import OnRecord, Progress
from closedform.meta_training._config import MetaTrainConfig, MetaTrainResult
from closedform.meta_training._evolution_file import read_evolution
from closedform.meta_training._evolve import EvolveConfig, evolve
from closedform.meta_training._meta_train import meta_train
from closedform.meta_training._meta_tune import TUNING, TUNING_UNROLL, meta_tune
from closedform.meta_training._metrics import read_metrics, tensorboard_writer
from closedform.meta_training._objectives import OBJECTIVES, Objective
from closedform.meta_training._references import Reference, reference
from closedform.meta_training._totals import NORMALISATIONS
from closedform.meta_training.estimators import (
    ESTIMATORS,
    PES,
    AntitheticES,
    Estimate,
    Estimator,
    ForwardAccumulation,
    Imitation,
    TruncatedBPTT,
)
from closedform.meta_training.online import MetaTuner, TunerConfig
from closedform.meta_training.racing import Candidate, RaceConfig, race, read_race
from closedform.unroll import AnyProblem, Carry, FlatParams, Problem, ProblemBatch, Step, begin, run, steps

__all__ = [
    "ESTIMATORS",
    "NORMALISATIONS",
    "OBJECTIVES",
    "PES",
    "TUNING",
    "TUNING_UNROLL",
    "AntitheticES",
    "AnyProblem",
    "Candidate",
    "Carry",
    "Estimate",
    "Estimator",
    "EvolveConfig",
    "FlatParams",
    "ForwardAccumulation",
    "Imitation",
    "MetaTrainConfig",
    "MetaTrainResult",
    "MetaTuner",
    "Objective",
    "OnRecord",
    "Problem",
    "ProblemBatch",
    "Progress",
    "RaceConfig",
    "Reference",
    "Step",
    "TruncatedBPTT",
    "TunerConfig",
    "begin",
    "evolve",
    "meta_train",
    "meta_tune",
    "race",
    "read_evolution",
    "read_metrics",
    "read_race",
    "reference",
    "run",
    "steps",
    "tensorboard_writer",
]
