"""The whole pipeline, from a task to a report."""

from closedform.pipeline._config import PRESETS, EvaluateConfig, RunConfig, preset
from closedform.pipeline._run import STAGES, Listener, RunResult, Silent, run

__all__ = ["PRESETS", "STAGES", "EvaluateConfig", "Listener", "RunConfig", "RunResult", "Silent", "preset", "run"]
