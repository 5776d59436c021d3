"""The whole pipeline on one task: meta-train, record, distil, tune, choose, compare, report.

Each stage leaves its result in the run's folder and is skipped when the run is resumed; the long ones also resume
from within:

    config.json  stages.json           what was asked; what is finished, with seconds
    meta_training/                     config, metrics.jsonl, checkpoint, model.safetensors
    trajectories.safetensors           the network at work
    hall_of_fame.json                  equations: error, complexity, state cost
    tuning/                            candidates of several sizes, their constants tuned by whole episodes
    validation/                        all their forms beside tuned baselines, on fresh episodes
    rule.json                          what is handed over: the form that did best there
    rule_distilled.json                the same equation as it was distilled, its odd part
    rule_scheduled.json                that with a schedule
    rule_tuned.json                    that once tuned
    choice.json                        which of these three it is, and why
    evaluation/                        runs.jsonl, evaluation.json
    report.html
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from closedform import learned_optimizers, tasks
from closedform._version import __version__
from closedform.analysis import response_curves
from closedform.distillation import Entry, HallOfFame, distill
from closedform.distillation import Progress as DistillProgress
from closedform.errors import CheckpointError
from closedform.evaluation import Evaluation, EvaluationOptions, evaluate, torch_threads, verdict
from closedform.learned_optimizers import LearnedOptimizer, RecurrentOptimizer, load_learned_optimizer
from closedform.meta_training import TruncatedBPTT, meta_train, read_evolution, read_metrics
from closedform.pipeline._choice import choose
from closedform.pipeline._chosen import Chosen
from closedform.pipeline._config import SEEDED, RunConfig
from closedform.pipeline._folder import STAGES, Folder
from closedform.pipeline._forms import DISTILLED, FORM_FILES, TUNED, candidates
from closedform.pipeline._lead import lead
from closedform.pipeline._listener import Listener, Silent, meta_step, shown
from closedform.pipeline._selection import Tuned, tune_candidates
from closedform.report import ReportData, RunInfo, write_report
from closedform.rules import Rule, load_rule, save_rule
from closedform.tasks import Task
from closedform.trajectories import load_trajectories, record, save_trajectories


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        report: The report's path.
        rule: What is handed over.
        form: Which it is: "distilled rule", "scheduled rule" or "tuned rule".
        distilled, tuned: Its equation as distilled, and once tuned, which is thrown away if that did not hold.
        chosen: That equation's place in the hall of fame.
        lead: What the report's first line says.
        hall: The hall of fame.
        evaluation: The comparison.
        seconds: Wall-clock seconds by stage.
    """

    report: Path
    rule: Rule
    form: str
    distilled: Rule
    tuned: Rule
    chosen: Entry
    lead: str
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
            load_rule(self.folder / "rule.json"),
            self.form,
            self.forms[DISTILLED],
            self.forms[TUNED],
            self.chosen,
            self.lead,
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
    def forms(self) -> dict[str, Rule]:
        return {name: load_rule(self.folder / file) for name, file in FORM_FILES.items()}

    @property
    def choice(self) -> Chosen:
        return Chosen.load(self.folder / "choice.json")

    @property
    def chosen(self) -> Entry:
        wanted = self.choice.equation
        found = next((entry for entry in self.hall.entries if entry.equation == wanted), None)
        if found is None:
            raise CheckpointError(
                f"{self.folder / 'choice.json'} names an equation that is not in hall_of_fame.json; "
                "add --overwrite to start again"
            )
        return found

    @property
    def form(self) -> str:
        return self.choice.form

    @property
    def lead(self) -> str:
        found = verdict(self.evaluation, self.task.name, self.form)
        return lead(found, self.task.name, self.form, won=self.choice.beats)

    @property
    def evaluation(self) -> Evaluation:
        return Evaluation.load(self.folder / "evaluation" / "evaluation.json")

    def _train(self) -> None:
        result = meta_train(
            new_network(self.config).to(self.device),
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
        self._tuned()

    def _tuned(self, resume: bool = False) -> list[Tuned]:
        """The candidates, tuned; read from the folder where that is done."""
        config = self.config
        on_cpu = self.task.device.type == "cpu"
        brief, full = (one if on_cpu else replace(one, workers=1) for one in (config.screen, config.tune))
        return tune_candidates(
            candidates(self.hall, config.sizes),
            self.task,
            brief,
            full,
            self.folder / "tuning",
            resume=resume or self.folder.resume,
            listener=Silent() if resume else self.listener,
        )

    def _choose(self) -> None:
        tuned = self._tuned(resume=True)
        chosen = choose(
            tuned,
            self.task,
            self.config.choose,
            self.folder / "validation",
            resume=self.folder.resume,
            progress=self.listener.progress,
        )
        for name, rule in chosen.rules.items():
            save_rule(rule, self.folder / FORM_FILES[name])
        save_rule(chosen.rules[chosen.form], self.folder / "rule.json")
        chosen.kept(self.folder.path).save(self.folder / "choice.json")
        ratio, worst = chosen.score, f"on {chosen.score.task}, where it does worst"
        self.listener.result(
            f"the {chosen.form}: {math.exp(ratio.mean):.3g} [{math.exp(ratio.low):.3g}, {math.exp(ratio.high):.3g}] "
            f"times the loss of the best tuned baseline {worst}"
        )

    def _evaluate(self) -> None:
        chosen = self.config.evaluate
        evaluate(
            {self.config.optimizer: self.network, **self.forms},
            [self.task],
            seeds=chosen.seeds,
            baselines=chosen.baselines,
            options=EvaluationOptions(
                tuning_seeds=chosen.tuning_seeds, schedules=chosen.schedules, resume=self.folder.resume
            ),
            out=self.folder / "evaluation",
            progress=self.listener.progress,
        )
        for entry in self.evaluation.on(self.task.name):
            self.listener.result(f"{entry.label}: final loss {shown(entry.final_loss.mean)}")
        self.listener.result(self.lead)

    def _report(self) -> None:
        options = self.config.distill
        recording = load_trajectories(self.folder / "trajectories.safetensors")
        _, held_out = recording.split(options.test_fraction, options.holds_out_by)
        forms = self.forms
        shown_forms = {name: forms[name] for name in dict.fromkeys((DISTILLED, self.form))}
        data = ReportData(
            title=f"{self.config.optimizer} on {self.task.name}, as an equation",
            evaluation=self.evaluation,
            lead=self.lead,
            subject=self.form,
            meta_training=read_metrics(self.folder / "meta_training" / "metrics.jsonl"),
            evolution=self._evolution(self.choice.tuning),
            hall=self.hall.entries,
            chosen=self.chosen.rule,
            rule=forms[self.form],
            before=None if self.form == DISTILLED else forms[DISTILLED],
            responses=response_curves(shown_forms, self.network, held_out),
            run=self._run_info(),
        )
        write_report(self.folder / "report.html", data)

    def _evolution(self, folder: str) -> list[dict[str, Any]] | None:
        path = self.folder / folder / "evolution.json"
        return read_evolution(path) if path.exists() else None

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


def new_network(config: RunConfig) -> LearnedOptimizer:
    """The network before meta-training; a recurrent one is told the time as the run's options say."""
    recurrent = isinstance(learned_optimizers.get(config.optimizer), RecurrentOptimizer)
    options: dict[str, Any] = {"clock": config.clock} if recurrent else {}
    generator = torch.Generator().manual_seed(config.seed)
    return learned_optimizers.get(config.optimizer, generator=generator, **options)
