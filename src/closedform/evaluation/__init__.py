"""Compare optimizers fairly, and report what was found."""

from closedform.evaluation._baselines import BASELINES, DEFAULT_BASELINES, Baseline, log_grid
from closedform.evaluation._evaluate import EvaluationOptions, evaluate
from closedform.evaluation._evaluation import Difference, Entry, Evaluation, Protocol
from closedform.evaluation._statistics import Curve, Summary, paired_difference, summarize
from closedform.evaluation._tuning import Tuning

__all__ = [
    "BASELINES",
    "DEFAULT_BASELINES",
    "Baseline",
    "Curve",
    "Difference",
    "Entry",
    "Evaluation",
    "EvaluationOptions",
    "Protocol",
    "Summary",
    "Tuning",
    "evaluate",
    "log_grid",
    "paired_difference",
    "summarize",
]
