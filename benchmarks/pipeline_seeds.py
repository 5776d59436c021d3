"""Whether `closedform run` comes to the same conclusion whatever the seed and the processor.

    python benchmarks/pipeline_seeds.py [--seeds 5] [--runs runs/pipeline_seeds] [--side-by-side 1] [--only default]

Runs the whole pipeline with several seeds under two instruction sets: what the processor has, and what one of 2008 had
(torch, oneDNN and MKL are told so by the environment). Meta-training is chaotic, so networks and equations differ from
run to run; asked is that the rule handed over beats tuned, annealed Momentum, Adam and AdamW in four of five. A
finished run in ``--runs`` is used again. Writes benchmarks/results/pipeline_seeds.md after every run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from closedform._files import write_text
from closedform.analysis import certify
from closedform.evaluation import Evaluation, verdict
from closedform.rules import load_rule

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "pipeline_seeds.md"
TASK = "mlp-digits"
NAMED = ("Momentum", "Adam", "AdamW")
"""Whom the rule is asked to beat."""
SETS = {
    "default": {},
    "SSE4.1": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}


def main() -> None:
    arguments = parsed()
    sets = [arguments.only] if arguments.only else list(SETS)
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in sets]

    def job(one: tuple[str, int]) -> None:
        run(*one, arguments.runs)
        write_text(RESULTS, report(arguments.runs, arguments.seeds))

    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        list(pool.map(job, jobs))
    print(RESULTS.read_text(encoding="utf-8"))


def run(name: str, seed: int, runs: Path) -> None:
    """One run of the pipeline in a process of its own; one that is there is only continued."""
    command = [sys.executable, "-m", "closedform", "run", "--seed", str(seed), "--out", str(folder(runs, name, seed))]
    subprocess.run([*command, "--resume"], env={**os.environ, **SETS[name]}, check=True)


def folder(runs: Path, name: str, seed: int) -> Path:
    return runs / name / f"seed{seed}"


def report(runs: Path, seeds: int) -> str:
    places = [(name, seed) for name in SETS for seed in range(seeds)]
    done = [one for one in places if (folder(runs, *one) / "report.html").exists()]
    lines = [row(runs, *one) for one in done]
    conclusions = [conclusion(runs, name, [seed for other, seed in done if other == name]) for name in SETS]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    return "\n".join(
        [
            "# The pipeline over seeds and instruction sets",
            "",
            f"`python benchmarks/pipeline_seeds.py`; {datetime.date.today()}; {machine}; task {TASK}.",
            "",
            *conclusions,
            "",
            "| instructions | seed | handed over | nodes | buffers | odd | no drift | final loss [95 %] | Momentum "
            "| Adam | AdamW | beats | does not beat | in validation | distilled, untuned "
            "| accuracy, best baseline's | minutes |",
            "|---" * 17 + "|",
            *lines,
            "",
            "Final losses: mean minibatch training loss of the last 20 steps, over 10 seeds, on the half of the data "
            "that meta-training and validation have not seen. Baselines: the best of 13 learning rates, or more, under "
            "each of two schedules, constant and warm-up with cosine, on 3 tuning seeds. Beats: the difference, seed "
            "by seed, is below 0 beyond its 95 % interval. In validation: the same asked of the best of the three "
            "on fresh episodes, at the task's horizon and twice that. Minutes: of a run, with what "
            "else the machine did.",
            "",
        ]
    )


def conclusion(runs: Path, name: str, seeds: list[int]) -> str:
    won = [seed for seed in seeds if not set(NAMED) & set(found(runs, name, seed)[2].unbeaten)]
    return f"- {name}: the rule handed over beats tuned {', '.join(NAMED)} with {len(won)} of {len(seeds)} seeds."


def found(runs: Path, name: str, seed: int):
    here = folder(runs, name, seed)
    evaluation = Evaluation.load(here / "evaluation" / "evaluation.json")
    choice = json.loads((here / "choice.json").read_text(encoding="utf-8"))
    return evaluation, choice, verdict(evaluation, TASK, choice["form"])


def row(runs: Path, name: str, seed: int) -> str:
    evaluation, choice, beats = found(runs, name, seed)
    rule = load_rule(folder(runs, name, seed) / "rule.json")
    certificates = certify(rule)
    ours, best = evaluation.get(TASK, choice["form"]), evaluation.best_baseline(TASK)
    others = [next(entry for entry in evaluation.on(TASK) if entry.label == label) for label in NAMED]
    stages = json.loads((folder(runs, name, seed) / "stages.json").read_text(encoding="utf-8"))
    cells = [
        name,
        str(seed),
        choice["form"],
        str(rule.complexity),
        f"{rule.state_cost:g}",
        *(f"{one.answer} ({one.by})" for one in (certificates.odd, certificates.no_drift)),
        f"{number(ours.final_loss.mean)} [{number(ours.final_loss.low)}, {number(ours.final_loss.high)}]",
        *(number(entry.final_loss.mean) for entry in others),
        ", ".join(beats.beaten) or "none",
        ", ".join(beats.unbeaten) or "none",
        "beats" if choice["beats"] else "does not",
        number(evaluation.get(TASK, "distilled rule").final_loss.mean),
        f"{percent(ours)}, {percent(best)}",
        f"{sum(stages.values()) / 60:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def percent(entry) -> str:
    accuracy = entry.test.get("accuracy")
    return "-" if accuracy is None or accuracy.mean is None else f"{100 * accuracy.mean:.1f} %"


def number(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3g}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "pipeline_seeds")
    parser.add_argument("--side-by-side", type=int, default=1)
    parser.add_argument("--only", choices=list(SETS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
