"""The run's report."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from closedform._version import __version__
from closedform.analysis import response_curves
from closedform.distillation import HallOfFame
from closedform.evaluation import Evaluation
from closedform.learned_optimizers import LearnedOptimizer
from closedform.meta_training import read_evolution, read_metrics
from closedform.pipeline._config import SEEDED
from closedform.pipeline._folder import STAGES
from closedform.pipeline._forms import DISTILLED
from closedform.pipeline._stages import Handed, Work, first_line
from closedform.report import ReportData, RunInfo, write_report
from closedform.trajectories import Trajectories


def write_page(
    work: Work,
    network: LearnedOptimizer,
    recording: Trajectories,
    hall: HallOfFame,
    handed: Handed,
    evaluation: Evaluation,
) -> Path:
    """Write ``report.html``."""
    options, forms, form = work.config.distill, handed.forms, handed.form
    _, held_out = recording.split(options.test_fraction, options.holds_out_by)
    shown_forms = {name: forms[name] for name in dict.fromkeys((DISTILLED, form))}
    data = ReportData(
        title=f"{work.config.optimizer} on {work.task.name}, as an equation",
        evaluation=evaluation,
        lead=first_line(work, handed, evaluation),
        subject=form,
        meta_training=read_metrics(work.folder / "meta_training" / "metrics.jsonl"),
        evolution=_evolution(work, handed.chosen.tuning),
        hall=hall.entries,
        chosen=handed.entry.rule,
        folder=str(work.folder.path),
        rule=forms[form],
        before=None if form == DISTILLED else forms[DISTILLED],
        responses=response_curves(shown_forms, network, held_out),
        run=_run_info(work),
    )
    write_report(work.folder / "report.html", data)
    return work.folder / "report.html"


def _evolution(work: Work, folder: str) -> list[dict[str, Any]] | None:
    path = work.folder / folder / "evolution.json"
    return read_evolution(path) if path.exists() else None


def _run_info(work: Work) -> RunInfo:
    config = work.config
    return RunInfo(
        command=f"closedform run --task {config.task} --optimizer {config.optimizer} --seed {config.seed}",
        config=config.to_dict(),
        seeds=dict.fromkeys(SEEDED, config.seed),
        versions={"closedform": __version__, "torch": torch.__version__, "python": platform.python_version()},
        stages={STAGES[name]: seconds for name, seconds in work.folder.stages.items() if name != "report"},
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {work.device}",
    )
