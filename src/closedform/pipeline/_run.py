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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from closedform import learned_optimizers, tasks
from closedform.distillation import Entry, HallOfFame
from closedform.evaluation import Evaluation
from closedform.pipeline import _stages as stages
from closedform.pipeline._config import RunConfig
from closedform.pipeline._folder import Folder
from closedform.pipeline._forms import DISTILLED, TUNED
from closedform.pipeline._listener import Listener, Silent
from closedform.pipeline._report import write_page
from closedform.rules import Rule


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
    work = stages.Work(config, task, device, folder, listener or Silent())

    with work.once("train") as needed:
        network = stages.train(work) if needed else stages.read_network(work)
    with work.once("record") as needed:
        recording = stages.record_network(work, network) if needed else stages.read_recording(work)
    with work.once("distill") as needed:
        hall = stages.distil(work, recording) if needed else stages.read_hall(work)
    with work.once("tune") as needed:
        if needed:
            stages.tune(work, hall)
    with work.once("choose") as needed:
        handed = stages.choose_form(work, hall) if needed else stages.read_choice(work, hall)
    with work.once("evaluate") as needed:
        evaluation = stages.compare(work, network, handed) if needed else stages.read_evaluation(work)
    with work.always("report"):
        report = write_page(work, network, recording, hall, handed, evaluation)

    forms, line = handed.forms, stages.first_line(work, handed, evaluation)
    return RunResult(
        *(report, handed.rule, handed.form, forms[DISTILLED], forms[TUNED], handed.entry, line, hall, evaluation),
        seconds=dict(folder.stages),
    )
