"""The whole pipeline, from a task to a report."""

from closedform.pipeline._any_run import read_equations, read_run, write_runs_report
from closedform.pipeline._config import PRESETS, ChooseConfig, EvaluateConfig, RunConfig, preset
from closedform.pipeline._folder import STAGES
from closedform.pipeline._listener import Listener, Silent
from closedform.pipeline._run import RunResult, run

__all__ = [
    "PRESETS",
    "STAGES",
    "ChooseConfig",
    "EvaluateConfig",
    "Listener",
    "RunConfig",
    "RunResult",
    "Silent",
    "preset",
    "read_equations",
    "read_run",
    "run",
    "write_runs_report",
]
