"""Learn an optimizer, write it down as an equation, train your network with the equation.

    import closedform as cf

    rule = cf.load_rule("adam")
    optimizer = cf.RuleOptimizer(model.parameters(), rule, lr=1e-3)

Names are loaded when first used, so that training with a rule does not import what only learning one needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from closedform._version import __version__ as __version__

if TYPE_CHECKING:
    from closedform.analysis import certify as certify
    from closedform.analysis import explain as explain
    from closedform.distillation import HallOfFame as HallOfFame
    from closedform.distillation import SymbolicRegressor as SymbolicRegressor
    from closedform.distillation import distill as distill
    from closedform.evaluation import Evaluation as Evaluation
    from closedform.evaluation import evaluate as evaluate
    from closedform.learned_optimizers import LearnedOptimizer as LearnedOptimizer
    from closedform.learned_optimizers import SymbolicOptimizer as SymbolicOptimizer
    from closedform.meta_training import EvolveConfig as EvolveConfig
    from closedform.meta_training import MetaTrainConfig as MetaTrainConfig
    from closedform.meta_training import MetaTuner as MetaTuner
    from closedform.meta_training import RaceConfig as RaceConfig
    from closedform.meta_training import TruncatedBPTT as TruncatedBPTT
    from closedform.meta_training import evolve as evolve
    from closedform.meta_training import meta_train as meta_train
    from closedform.meta_training import meta_tune as meta_tune
    from closedform.meta_training import race as race
    from closedform.optim import RuleOptimizer as RuleOptimizer
    from closedform.optim import parameter_groups as parameter_groups
    from closedform.report import share_rule as share_rule
    from closedform.rules import Rule as Rule
    from closedform.rules import load_rule as load_rule
    from closedform.rules import save_rule as save_rule
    from closedform.tasks import Task as Task
    from closedform.tasks.distribution import TaskDistribution as TaskDistribution
    from closedform.trajectories import Trajectories as Trajectories
    from closedform.trajectories import record as record

_EXPORTS = {
    "Evaluation": "evaluation",
    "EvolveConfig": "meta_training",
    "HallOfFame": "distillation",
    "LearnedOptimizer": "learned_optimizers",
    "MetaTrainConfig": "meta_training",
    "MetaTuner": "meta_training",
    "RaceConfig": "meta_training",
    "Rule": "rules",
    "RuleOptimizer": "optim",
    "SymbolicOptimizer": "learned_optimizers",
    "SymbolicRegressor": "distillation",
    "Task": "tasks",
    "TaskDistribution": "tasks.distribution",
    "Trajectories": "trajectories",
    "TruncatedBPTT": "meta_training",
    "certify": "analysis",
    "distill": "distillation",
    "evaluate": "evaluation",
    "evolve": "meta_training",
    "explain": "analysis",
    "load_rule": "rules",
    "meta_train": "meta_training",
    "meta_tune": "meta_training",
    "parameter_groups": "optim",
    "race": "meta_training",
    "record": "trajectories",
    "save_rule": "rules",
    "share_rule": "report",
    "suggest_lr": "evaluation",
    "LearningRateFinder": "optim",
}
_SUBPACKAGES = (
    *("analysis", "codegen", "distillation", "errors", "evaluation", "export", "features", "lang"),
    *("learned_optimizers", "meta_training", "optim", "pipeline", "report", "reproduce", "rules", "tasks"),
    *("trajectories", "unroll"),
)

__all__ = sorted(["__version__", *_EXPORTS, *_SUBPACKAGES])


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"closedform.{_EXPORTS[name]}"), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"closedform.{name}")
    raise AttributeError(f"module 'closedform' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
