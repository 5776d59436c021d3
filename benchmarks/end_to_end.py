"""The whole pipeline, measured: final losses of network, distilled, scheduled and tuned rule, and tuned baselines.

    python benchmarks/end_to_end.py [--task mlp-digits] [--task mlp-mnist --data-dir DIR] [--runs runs/end_to_end]

Runs ``closedform run`` on each task (a finished run in ``--runs`` is used again) and writes, for each,
benchmarks/results/end_to_end_TASK.md, and the loss curves on mlp-digits as docs/images/run.svg.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
from pathlib import Path

import torch

from closedform import pipeline
from closedform._files import write_text
from closedform.evaluation import Entry, headline
from closedform.pipeline import RunConfig, RunResult
from closedform.report import loss_curves, standalone

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    arguments = parsed()
    for name in arguments.task:
        config = dataclasses.replace(RunConfig(), task=name)
        result = pipeline.run(
            config, arguments.runs / name, data_dir=arguments.data_dir, resume=True, listener=Printed()
        )
        text = report(name, result)
        print(text)
        write_text(RESULTS / f"end_to_end_{name}.md", text)
        if name == "mlp-digits":
            write_text(
                ROOT / "docs" / "images" / "run.svg", standalone(loss_curves(result.evaluation.on(name), "curves"))
            )


def report(task: str, result: RunResult) -> str:
    chosen = result.chosen
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    rows = [row(entry) for entry in sorted(result.evaluation.on(task), key=lambda entry: entry.final_loss.rank)]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    return "\n".join(
        [
            f"# End to end on {task}",
            "",
            f"`python benchmarks/end_to_end.py --task {task}`; {machine}.",
            "",
            result.lead,
            "",
            *(line.text for line in headline(result.evaluation, result.form)),
            "",
            f"Its equation: R^2 {chosen.r2:.4f} on held-out episodes (best of the hall {result.hall.best.r2:.4f}), "
            f"complexity {chosen.complexity}, state cost {chosen.state_cost}: `{chosen.equation}`",
            "",
            "| optimizer | learning rate | final loss [95 %] | full loss | test accuracy | state cost | us a step |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Final loss: mean minibatch training loss of the last {result.evaluation.protocol.tail} steps, mean over "
            f"{result.evaluation.protocol.seeds} seeds with bootstrap interval. Baselines' learning rates and "
            f"schedules are tuned on {result.evaluation.protocol.tuning_seeds} other seeds by the same quantity.",
            "",
            f"Stages: {stages}.",
            "",
        ]
    )


def row(entry: Entry) -> str:
    final, accuracy = entry.final_loss, entry.test.get("accuracy")
    lr = "-" if entry.lr is None else f"{entry.lr:.3g}"
    seen = "-" if accuracy is None or accuracy.mean is None else f"{100 * accuracy.mean:.1f} %"
    time = "-" if entry.step_seconds is None else f"{1e6 * entry.step_seconds:.0f}"
    return (
        f"| {entry.label} | {lr} | {number(final.mean)} [{number(final.low)}, {number(final.high)}] "
        f"| {number(entry.full_loss.mean)} | {seen} | {entry.state_cost:g} | {time} |"
    )


def number(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3g}"


class Printed(pipeline.Silent):
    def stage(self, name: str) -> None:
        print(pipeline.STAGES[name], flush=True)

    def result(self, text: str) -> None:
        print("   ", text, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "end_to_end")
    arguments = parser.parse_args()
    arguments.task = arguments.task or ["mlp-digits"]
    return arguments


if __name__ == "__main__":
    main()
