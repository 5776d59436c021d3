"""What was found, as pages: one HTML file with its plots inside, which loads nothing from anywhere."""

from closedform.report._compare import comparison_html, write_comparison
from closedform.report._plots import final_losses, loss_curves
from closedform.report._report import ReportData, RunInfo, report_html, write_report
from closedform.report._svg import standalone
from closedform.report._tasks import profile_plot
from closedform.report._watch import watch_html, write_watch

__all__ = [
    "ReportData",
    "RunInfo",
    "comparison_html",
    "final_losses",
    "loss_curves",
    "profile_plot",
    "report_html",
    "standalone",
    "watch_html",
    "write_comparison",
    "write_report",
    "write_watch",
]
