"""Compare optimizers fairly, and report what was found."""

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
from closedform.evaluation._baselines import BASELINES, DEFAULT_BASELINES, Baseline, log_grid
from closedform.evaluation._closed_loop import Selection, Trial, select_closed_loop
from closedform.evaluation._evaluate import EvaluationOptions, evaluate
from closedform.evaluation._evaluation import Difference, Entry, Evaluation, Protocol
from closedform.evaluation._execute import torch_threads
from closedform.evaluation._headline import Headline, headline
from closedform.evaluation._plots import final_losses, loss_curves
from closedform.evaluation._profile import profile_plot
from closedform.evaluation._report import ReportData, RunInfo, report_html, write_report
from closedform.evaluation._response import Response, ResponseCurves, response_curves
from closedform.evaluation._schedules import SCHEDULES, check_schedules
from closedform.evaluation._statistics import Curve, Summary, paired_difference, summarize
from closedform.evaluation._steps_to_target import Attempt, StepsToTarget, first_reached, smoothed_end, steps_to_target
from closedform.evaluation._svg import standalone
from closedform.evaluation._torch_optimizers import TorchOptimizer
from closedform.evaluation._tuning import Tuning
from closedform.evaluation._verdict import Verdict, verdict

__all__ = [
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
    "EvaluationOptions",
    "Headline",
    "Interval",
    "Protocol",
    "ReportData",
    "Response",
    "ResponseCurves",
    "RunInfo",
    "Selection",
    "StepsToTarget",
    "Summary",
    "TorchOptimizer",
    "Trial",
    "Tuning",
    "Verdict",
    "aggregate",
    "check_schedules",
    "evaluate",
    "final_losses",
    "first_reached",
    "geometric_mean",
    "headline",
    "interquartile_mean",
    "log_grid",
    "loss_curves",
    "loss_ratios",
    "of_tasks",
    "paired_difference",
    "performance_profile",
    "profile_plot",
    "report_html",
    "response_curves",
    "select_closed_loop",
    "smoothed_end",
    "standalone",
    "steps_to_target",
    "summarize",
    "torch_threads",
    "verdict",
    "write_report",
]
