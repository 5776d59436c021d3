"""The page of ``gpu_training.py``'s results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WINDOW = 40  # the training loss is averaged over the last 1/40 of the run


def page(report: Mapping[str, Any]) -> str:
    """Markdown: a table of runs and one of step times for each workload."""
    about = report["machine"]
    lines = [
        "# A rule without tuning beside tuned AdamW, on a GPU",
        "",
        f"{about['date']}, {about['device']}, {about['cores']} CPU cores, torch {about['torch']}, Python "
        f"{about['python']}; seed {about['seed']}, {about['workers']} runs at a time"
        + ("; **tiny sizes, which only show that it works**" if about["quick"] else "")
        + ". `python benchmarks/gpu_training.py`.",
        "",
        f"The rule is `{report['rule']['name']}`: learning rate 1, nothing tuned, no weight decay, no groups. AdamW "
        "and Muon warm up over 5 % of the steps and follow a cosine to zero, with decoupled decay on matrices (0.05 "
        "for the ResNet, 0.1 for the GPT); AdamW's betas are (0.9, 0.999) and (0.9, 0.95). Muon moves hidden matrices "
        "at 0.02, AdamW at 3e-4 the rest. bfloat16 autocast. The same start and the same batches for all.",
    ]
    for name, timing in report["timing"].items():
        lines += ["", f"## {timing.get('first', {}).get('name', name)}", ""]
        runs = [run for run in report["runs"] if run["workload"] == name]
        if runs:
            lines += [f"{report['horizons'][name]} steps.", "", *_runs(runs), ""]
        for missing in [entry for entry in report["left_out"] if entry[0] == name]:
            lines += [f"Not run for want of time: {missing[1]} at {missing[2]:g}.", ""]
        lines += _times(timing)
    return "\n".join(lines).rstrip() + "\n"


def _runs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every run, with the steps in which it got as far as the best AdamW."""
    finished = [run for run in runs if run["ended"] == "finished"]
    rivals = [run for run in finished if run["entrant"] == "AdamW"]
    train = min((_train(run)[-1] for run in rivals), default=math.nan)
    test = min((run["tests"][-1][1]["loss"] for run in rivals), default=math.nan)
    lines = [
        "| entrant | lr | test loss | test accuracy | train loss | steps to AdamW's best train loss | test loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda run: (run["entrant"] != "rule", run["entrant"], run["lr"])):
        cells = [run["entrant"], f"{run['lr']:g}"]
        if run["ended"] == "finished":
            final = run["tests"][-1][1]
            cells += [f"{final['loss']:.4f}", f"{final['accuracy']:.4f}", f"{_train(run)[-1]:.4f}"]
            cells += [_reached(list(enumerate(_train(run), 1)), train)]
            cells += [_reached([(step, found["loss"]) for step, found in run["tests"]], test)]
        else:
            reason = run["ended"] + (f": {run['messages'][-1][:120]}" if run.get("messages") else "")
            cells += [reason, "", "", "", ""]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines


def _train(run: Mapping[str, Any]) -> list[float]:
    """The training loss, each averaged with those of the window before it."""
    losses = run["train"]
    window = max(1, len(losses) // WINDOW)
    sums = [0.0]
    for loss in losses:
        sums.append(sums[-1] + loss)
    return [(sums[end] - sums[max(0, end - window)]) / min(window, end) for end in range(1, len(sums))]


def _reached(curve: Sequence[tuple[int, float]], target: float) -> str:
    """The first step at which a curve is as low as the target, and how many times fewer that is than all steps."""
    found = next((step for step, loss in curve if loss <= target), None)
    return "not" if found is None else f"{found} ({curve[-1][0] / found:.2f}x)"


def _times(timing: Mapping[str, Any]) -> list[str]:
    rows = {name: found for part in timing.values() for name, found in part.get("steps", {}).items()}
    lines = ["| on the idle device | median ms | least ms |", "|---|---|---|"]
    lines += [f"| {name} | {found['median_ms']:.3f} | {found['least_ms']:.3f} |" for name, found in rows.items()]
    for stage, part in timing.items():
        failures = dict(part.get("failed", {}))
        if part.get("ended") == "failed":
            failures[f"measuring, {stage}"] = " ".join(part["messages"][-1:])
        lines += ["", *(f"Failed: {name}: {reason}" for name, reason in failures.items())] if failures else []
        for name, value in part.get("agreement", {}).items():
            lines += ["", f"{name}: differs by {value:.1e} of the distance moved in ten steps."]
    return lines
