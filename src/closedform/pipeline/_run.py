"""The whole pipeline on one task: meta-train, record, distil, meta-tune, compare, report.

Each stage leaves its result in the run's folder and is skipped when the run is resumed; the long ones also resume
from within:

    config.json  stages.json           what was asked; what is finished, with seconds
    meta_training/                     config, metrics.jsonl, checkpoint, model.safetensors
    trajectories.safetensors           the network at work
    hall_of_fame.json                  equations: error, complexity, state cost
    meta_tuning/                       candidates of several sizes, their constants meta-trained further
    rule_distilled.json                the candidate that trains best once tuned, before tuning: a whole rule
    rule_tuned.json                    the same after tuning
    evaluation/                        runs.jsonl, evaluation.json
    report.html
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from closedform import learned_optimizers, tasks
from closedform._version import __version__
from closedform.distillation import HallOfFame, distill
from closedform.distillation import Progress as DistillProgress
from closedform.evaluation import (
    Evaluation,
    EvaluationOptions,
    ReportData,
    RunInfo,
    evaluate,
    response_curves,
    torch_threads,
    write_report,
)
from closedform.learned_optimizers import LearnedOptimizer, load_learned_optimizer
from closedform.meta_training import TruncatedBPTT, meta_train, read_metrics
from closedform.pipeline._config import SEEDED, RunConfig
from closedform.pipeline._folder import Folder
from closedform.pipeline._listener import Listener, Silent, meta_step, shown
from closedform.pipeline._selection import candidates, tune_candidates
from closedform.rules import Rule, load_rule, save_rule
from closedform.tasks import Task
from closedform.trajectories import load_trajectories, record, save_trajectories

STAGES: dict[str, str] = {
    "train": "meta-training",
    "record": "recording",
    "distill": "distilling",
    "tune": "meta-tuning",
    "evaluate": "comparing",
    "report": "reporting",
}
"""Stage -> what it is doing, in order."""


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        report: The report's path.
        distilled, tuned: The rule before and after meta-tuning.
        hall: The hall of fame.
        evaluation: The comparison.
        seconds: Wall-clock seconds by stage.
    """

    report: Path
    distilled: Rule
    tuned: Rule
    hall: HallOfFame
    evaluation: Evaluation
    seconds: Mapping[str, float]


def run(
    config: RunConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> RunResult:
    """Run the whole pipeline; ends with ``report.html`` in ``out``.

    Args:
        config: Options of all stages.
        out: Folder for results.
        data_dir: Folder of the task's data files.
        device: Where to meta-train.
        resume: Continue an interrupted run in ``out``; finished stages are kept.
        overwrite: Start again where ``out`` holds a run.
        listener: Hears of stages, progress and results.

    Raises:
        OptionError, CheckpointError: ``out`` holds a run, of these options or others.
        UnknownNameError, DataError: no such task or optimizer; its data are missing.
        OutputError: ``out`` cannot be written.
    """
    task = tasks.get(config.task, data_dir=data_dir)
    learned_optimizers.get(config.optimizer)  # an unknown name or device is said before anything is written
    task.to(device)
    folder = Folder(Path(out), config.to_dict(), resume=resume, overwrite=overwrite)
    return _Pipeline(config, task, device, folder, listener or Silent()).run()


@dataclass
class _Pipeline:
    config: RunConfig
    task: Task
    device: str
    folder: Folder
    listener: Listener

    def run(self) -> RunResult:
        for name in STAGES:
            if not self.folder.done(name) or name == "report":
                self.listener.stage(name)
                with self.folder.stage(name), torch_threads(self.config.threads):
                    getattr(self, f"_{name}")()
        return RunResult(
            self.folder / "report.html",
            self.distilled,
            self.tuned,
            self.hall,
            self.evaluation,
            dict(self.folder.stages),
        )

    @property
    def network(self) -> LearnedOptimizer:
        return load_learned_optimizer(self.folder / "meta_training" / "model.safetensors")

    @property
    def hall(self) -> HallOfFame:
        return HallOfFame.load(self.folder / "hall_of_fame.json")

    @property
    def distilled(self) -> Rule:
        return load_rule(self.folder / "rule_distilled.json")

    @property
    def tuned(self) -> Rule:
        return load_rule(self.folder / "rule_tuned.json")

    @property
    def evaluation(self) -> Evaluation:
        return Evaluation.load(self.folder / "evaluation" / "evaluation.json")

    def _train(self) -> None:
        generator = torch.Generator().manual_seed(self.config.seed)
        result = meta_train(
            learned_optimizers.get(self.config.optimizer, generator=generator).to(self.device),
            [self.task.to(self.device)],
            estimator=TruncatedBPTT(self.config.unroll),
            config=self.config.train,
            out=self.folder / "meta_training",
            resume=self.folder.resume,
            progress=lambda found: meta_step(self.listener, found, self.config.train.steps),
        )
        self.listener.result(f"{result.step} meta-steps; best validation {shown(result.best_validation)}")

    def _record(self) -> None:
        options = self.config.record
        options = replace(options, steps=min(options.steps, self.task.horizon))  # what follows was not trained for
        found = record(
            self.network,
            self.task,
            options,
            on_step=lambda done, total: self.listener.progress(done, total, ""),
        )
        save_trajectories(found, self.folder / "trajectories.safetensors")
        self.listener.result(f"{len(found.updates)} rows of {', '.join(column.name for column in found.columns)}")

    def _distill(self) -> None:
        trajectories = load_trajectories(self.folder / "trajectories.safetensors")
        hall = distill(trajectories, config=self.config.distill, on_progress=self._distilling)
        hall.save(self.folder / "hall_of_fame.json")
        best = hall.choose()
        self.listener.result(
            f"R^2 {best.r2:.4f} on held-out episodes, complexity {best.complexity}, state cost {best.state_cost}"
        )

    def _tune(self) -> None:
        chosen = tune_candidates(
            candidates(self.hall, self.config.sizes),
            self.task,
            self.config,
            self.folder / "meta_tuning",
            resume=self.folder.resume,
            listener=self.listener,
        )
        save_rule(chosen.before, self.folder / "rule_distilled.json")
        save_rule(chosen.after, self.folder / "rule_tuned.json")

    def _evaluate(self) -> None:
        chosen = self.config.evaluate
        evaluate(
            {self.config.optimizer: self.network, "distilled rule": self.distilled, "tuned rule": self.tuned},
            [self.task],
            seeds=chosen.seeds,
            baselines=chosen.baselines,
            options=EvaluationOptions(tuning_seeds=chosen.tuning_seeds, resume=self.folder.resume),
            out=self.folder / "evaluation",
            progress=self.listener.progress,
        )
        for entry in self.evaluation.on(self.task.name):
            self.listener.result(f"{entry.label}: final loss {shown(entry.final_loss.mean)}")

    def _report(self) -> None:
        options = self.config.distill
        recording = load_trajectories(self.folder / "trajectories.safetensors")
        _, held_out = recording.split(options.test_fraction, options.holds_out_by)
        hall, tuned, distilled = self.hall, self.tuned, self.distilled
        data = ReportData(
            title=f"{self.config.optimizer} on {self.task.name}, as an equation",
            evaluation=self.evaluation,
            subject="tuned rule",
            meta_training=read_metrics(self.folder / "meta_training" / "metrics.jsonl"),
            meta_tuning=read_metrics(self.folder / "meta_tuning" / "metrics.jsonl"),
            hall=hall.entries,
            chosen=distilled,
            rule=tuned,
            before=distilled,
            responses=response_curves({"distilled rule": distilled, "tuned rule": tuned}, self.network, held_out),
            run=self._run_info(),
        )
        write_report(self.folder / "report.html", data)

    def _run_info(self) -> RunInfo:
        config = self.config
        return RunInfo(
            command=f"closedform run --task {config.task} --optimizer {config.optimizer} --seed {config.seed}",
            config=config.to_dict(),
            seeds=dict.fromkeys(SEEDED, config.seed),
            versions={"closedform": __version__, "torch": torch.__version__, "python": platform.python_version()},
            stages={STAGES[name]: seconds for name, seconds in self.folder.stages.items() if name != "report"},
            machine=f"{platform.machine()}, {os.cpu_count()} cores, {self.device}",
        )

    def _distilling(self, found: DistillProgress) -> None:
        text = f"{found.stage}: R^2 {1 - found.best_error:.4f}"
        self.listener.progress(found.generation, self.config.distill.generations, text)
