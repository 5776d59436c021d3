"""The report: one HTML file with its plots inside, which loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedform._files import write_text
from closedform.analysis import ResponseCurves
from closedform.evaluation import Evaluation, duration
from closedform.report._front import hall
from closedform.report._page import Block, Code, Folded, Row, Section, Table, TableColumn, Text, page_html
from closedform.report._results import comparison, headlines, learning_rates
from closedform.report._rule import Records, equation, evolution, response, training
from closedform.report._tasks import all_tasks
from closedform.rules import Rule

if TYPE_CHECKING:
    from closedform.report._front import Found


@dataclass(frozen=True)
class RunInfo:
    """What was run.

    Attributes:
        command: The command line that made the report.
        config: Options by stage; anything that JSON holds.
        seeds: Seeds by what they seed.
        versions: Versions by name.
        stages: Wall-clock seconds by stage, in order.
        machine: One line on the hardware.
    """

    command: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""


@dataclass(frozen=True)
class ReportData:
    """What the report is made of; a part that is None has no section.

    Attributes:
        title: The report's title.
        lead: A sentence under it.
        evaluation: The comparison.
        subject: Name of the optimizer that the headline is about; by default the evaluation's last learned one.
        meta_training, meta_tuning: Records of their ``metrics.jsonl``.
        evolution: Records of tuning by evolution: ``generation``, ``score``, ``validation``.
        hall: The hall of fame's entries.
        chosen: The hall's rule that was chosen, or its equation.
        folder: Where the hall is, for the command that takes an equation out of it.
        rule: The rule to show: the tuned one if there was tuning.
        before: That rule before tuning.
        responses: Responses of network and equations.
        run: What was run.
    """

    title: str = "A learned optimizer as an equation"
    lead: str = ""
    evaluation: Evaluation | None = None
    subject: str | None = None
    meta_training: Records | None = None
    meta_tuning: Records | None = None
    evolution: Records | None = None
    hall: Sequence[Found] | None = None
    chosen: Rule | str | None = None
    folder: str = "RUN"
    rule: Rule | None = None
    before: Rule | None = None
    responses: ResponseCurves | None = None
    run: RunInfo | None = None


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the report, atomically.

    Args:
        path: The HTML file.
        data: Its parts.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(Path(path), report_html(data))
    return Path(path)


def report_html(data: ReportData) -> str:
    """The report's text."""
    head: list[Block] = [Text(data.lead)] if data.lead else []
    if data.evaluation is not None:
        head += headlines(data.evaluation, data.subject)
    return page_html(data.title, head, _sections(data))


def _sections(data: ReportData) -> list[Section]:
    """Every section that there is something to say in."""
    found: list[Section] = []
    if data.meta_training is not None:
        content = training(data.meta_training, "Meta-training", "meta-training")
        found.append(Section("meta-training", "Learning the network", content))
    if data.hall is not None:
        found.append(Section("hall-of-fame", "Equations found", hall(data.hall, data.chosen, data.folder)))
    if data.meta_tuning is not None:
        content = training(data.meta_tuning, "Meta-tuning", "meta-tuning")
        found.append(Section("meta-tuning", "Tuning its constants", content))
    if data.evolution is not None:
        found.append(Section("evolution", "Tuning its constants by whole episodes", evolution(data.evolution)))
    if data.rule is not None:
        found.append(Section("equation", "The equation", equation(data.rule, data.before)))
    if data.responses is not None:
        found.append(Section("responses", "Equation against network", response(data.responses)))
    if data.evaluation is not None:
        found.append(Section("comparison", "Against tuned optimizers", comparison(data.evaluation)))
        together = all_tasks(data.evaluation)
        if together:
            found.append(Section("all-tasks", "All tasks together", together))
        if any(entry.tuning for entry in data.evaluation.entries):
            found.append(Section("learning-rates", "How the baselines were tuned", learning_rates(data.evaluation)))
    if data.run is not None:
        found.append(Section("run", "What was run", _run(data.run)))
    return found


def _run(run: RunInfo) -> list[Block]:
    blocks: list[Block] = [Text(run.machine)] if run.machine else []
    if run.command:
        blocks.append(Code(run.command))
    if run.stages:
        total = sum(run.stages.values())
        rows: list[Row] = [("", [stage, duration(seconds)]) for stage, seconds in run.stages.items()]
        rows.append(("best", ["total", duration(total)]))
        blocks.append(Table([TableColumn("stage", ""), TableColumn("wall-clock time")], rows))
    facts = [("seed", name, str(seed)) for name, seed in run.seeds.items()]
    facts += [("version", name, version) for name, version in run.versions.items()]
    if facts:
        rows = [("", [f"{kind}: {name}", value]) for kind, name, value in facts]
        blocks.append(Table([TableColumn("what", ""), TableColumn("value")], rows))
    if run.config:
        blocks.append(Folded("Configuration", [Code(json.dumps(run.config, indent=2, default=str))]))
    return blocks
