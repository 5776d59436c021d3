"""Compare optimizers fairly."""

from importlib import import_module
from typing import Any

from closedform.evaluation._aggregates import (
    CAP,
    Aggregate,
    Interval,
    aggregate,
    geometric_mean,
    interquartile_mean,
    loss_ratios,
    of_tasks,
    performance_profile,
)
from closedform.evaluation._baselines import (
    BASELINES,
    DEFAULT_BASELINES,
    SCHEDULES,
    Baseline,
    check_schedules,
    log_grid,
)
from closedform.evaluation._entries import Difference, EvaluationEntry, Protocol
from closedform.evaluation._evaluate import EvaluationOptions, evaluate
from closedform.evaluation._evaluation import Evaluation
from closedform.evaluation._headline import Headline, Verdict, headline, verdict
from closedform.evaluation._numbers import ABSENT, count, duration, interval, number, percent, percent_interval, rate
from closedform.evaluation._runs import torch_threads
from closedform.evaluation._statistics import Curve, Summary, paired_difference, summarize
from closedform.evaluation._steps_to_target import Attempt, StepsToTarget, first_reached, smoothed_end, steps_to_target
from closedform.evaluation._suggest import suggest_lr
from closedform.evaluation._table import schedule, trials
from closedform.evaluation._torch_optimizers import TorchOptimizer
from closedform.evaluation._tuning import Tuning

__all__ = [
    "ABSENT",
    "BASELINES",
    "CAP",
    "DEFAULT_BASELINES",
    "SCHEDULES",
    "Aggregate",
    "Attempt",
    "Baseline",
    "Curve",
    "Difference",
    "Entry",
    "Evaluation",
    "EvaluationEntry",
    "EvaluationOptions",
    "Headline",
    "Interval",
    "Protocol",
    "StepsToTarget",
    "Summary",
    "TorchOptimizer",
    "Tuning",
    "Verdict",
    "aggregate",
    "check_schedules",
    "count",
    "duration",
    "evaluate",
    "first_reached",
    "geometric_mean",
    "headline",
    "interquartile_mean",
    "interval",
    "log_grid",
    "loss_ratios",
    "number",
    "of_tasks",
    "paired_difference",
    "percent",
    "percent_interval",
    "performance_profile",
    "rate",
    "schedule",
    "smoothed_end",
    "steps_to_target",
    "suggest_lr",
    "summarize",
    "torch_threads",
    "trials",
    "verdict",
]

Entry = EvaluationEntry
"""Its former name."""

_MOVED = {
    "ReportData": "closedform.report",
    "Response": "closedform.analysis",
    "ResponseCurves": "closedform.analysis",
    "RunInfo": "closedform.report",
    "Selection": "closedform.distillation",
    "Trial": "closedform.distillation",
    "final_losses": "closedform.report",
    "loss_curves": "closedform.report",
    "profile_plot": "closedform.report",
    "report_html": "closedform.report",
    "response_curves": "closedform.analysis",
    "select_closed_loop": "closedform.distillation",
    "standalone": "closedform.report",
    "write_report": "closedform.report",
}
"""Names that were here once, and the packages that they are in now; they can still be had from here."""


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return getattr(import_module(_MOVED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
