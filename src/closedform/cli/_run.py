"""``closedform run``: the whole pipeline, from a task to a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from closedform import pipeline
from closedform.cli._app import STDERR, STDOUT, DataDir, Device, JsonFlag, Out, Resume, Seed, app, show
from closedform.cli._progress import COLUMNS, Bar, add_bar


@app.command("run")
def run(
    task: Annotated[str, typer.Option(help="The task (closedform tasks).")] = "mlp-digits",
    optimizer: Annotated[str, typer.Option(help="The learned optimizer to meta-train.")] = "rp-si",
    out: Out = Path("runs/run"),
    preset: Annotated[str, typer.Option(help=f"How much to do: {', '.join(pipeline.PRESETS)}.")] = "default",
    seed: Seed = 0,
    data_dir: DataDir = None,
    device: Device = "cpu",
    resume: Resume = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start again where --out holds a run.")] = False,
    json: JsonFlag = False,
) -> None:
    """Meta-train, record, distil, tune, choose, compare, report: everything, end to end."""
    config = dataclasses.replace(pipeline.preset(preset), task=task, optimizer=optimizer).with_seed(seed)
    with Progress(*COLUMNS, console=STDERR, disable=not STDERR.is_terminal) as progress:
        result = pipeline.run(
            config,
            out,
            data_dir=data_dir,
            device=device,
            resume=resume,
            overwrite=overwrite,
            listener=_Console(progress),
        )
    found = {
        "report": str(result.report),
        "rule": str(out / "rule.json"),
        "form": result.form,
        "verdict": result.lead,
        "seconds": dict(result.seconds),
        "final_losses": {entry.label: entry.final_loss.mean for entry in result.evaluation.on(task)},
    }
    text = f"{result.lead}\nreport: {result.report}\nrule:   {found['rule']}"
    show(found, json, lambda: STDOUT.print(text, highlight=False))


class _Console:
    """Shows a run on standard error: a bar a stage, and a line on what it found."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: Bar | None = None

    def stage(self, name: str) -> None:
        if self._bar is not None:
            self._bar.stop()
        number = list(pipeline.STAGES).index(name) + 1
        title = f"[{number}/{len(pipeline.STAGES)}] {pipeline.STAGES[name]}"
        self._bar = add_bar(self._progress, title)
        if not STDERR.is_terminal:
            typer.echo(title, err=True)

    def progress(self, done: int, total: int, text: str) -> None:
        if self._bar is not None:
            self._bar(done, total, text)

    def record(self, record: Mapping[str, Any]) -> None:
        if self._bar is not None:
            self._bar.record(record)

    def result(self, text: str) -> None:
        self._progress.console.print(f"      {text}", highlight=False, markup=False)
