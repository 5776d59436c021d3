"""Compare optimizers fairly, and report what was found."""

from closedform.evaluation._baselines import BASELINES, DEFAULT_BASELINES, Baseline, log_grid
from closedform.evaluation._closed_loop import Selection, Trial, select_closed_loop
from closedform.evaluation._evaluate import EvaluationOptions, evaluate
from closedform.evaluation._evaluation import Difference, Entry, Evaluation, Protocol
from closedform.evaluation._execute import torch_threads
from closedform.evaluation._headline import Headline, headline
from closedform.evaluation._plots import final_losses, loss_curves
from closedform.evaluation._report import ReportData, RunInfo, report_html, write_report
from closedform.evaluation._response import Response, ResponseCurves, response_curves
from closedform.evaluation._statistics import Curve, Summary, paired_difference, summarize
from closedform.evaluation._svg import standalone
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
    "Headline",
    "Protocol",
    "ReportData",
    "Response",
    "ResponseCurves",
    "RunInfo",
    "Selection",
    "Summary",
    "Trial",
    "Tuning",
    "evaluate",
    "final_losses",
    "headline",
    "log_grid",
    "loss_curves",
    "paired_difference",
    "report_html",
    "response_curves",
    "select_closed_loop",
    "standalone",
    "summarize",
    "torch_threads",
    "write_report",
]
