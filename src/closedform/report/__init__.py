"""What was found, as pages: one HTML file with its plots inside, which loads nothing from anywhere."""

from closedform.report._compare import comparison_figures, comparison_html, write_comparison
from closedform.report._equations import rule_mathml
from closedform.report._plots import final_losses, loss_curves
from closedform.report._report import ReportData, RunInfo, report_html, write_report
from closedform.report._svg import STYLE, standalone, to_svg
from closedform.report._tasks import profile_plot
from closedform.report._watch import watch_html, write_watch

__all__ = [
    "STYLE",
    "ReportData",
    "RunInfo",
    "comparison_figures",
    "comparison_html",
    "final_losses",
    "loss_curves",
    "profile_plot",
    "report_html",
    "rule_mathml",
    "standalone",
    "to_svg",
    "watch_html",
    "write_comparison",
    "write_report",
    "write_watch",
]
