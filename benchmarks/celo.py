"""celo, the rule distilled from it, and that rule with its constants tuned: one table, beside tuned AdamW-cosine.

    python benchmarks/celo.py [--data-dir DIR] [--seeds 5] [--runs runs/celo] [--workers 1]

Each runs as it is, with nothing tuned, on tasks that none of them has seen: five of ``closedform reproduce unseen``.
AdamW has warm-up and a cosine, and the best of 13 learning rates for each task, found on another seed. The rules are
those that ``benchmarks/recipes/celo_rule.py`` made. Finished runs in ``--runs`` are used again. Writes
benchmarks/results/celo.md and celo.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from closedform import tasks
from closedform._files import write_text
from closedform.evaluation import (
    Baseline,
    Evaluation,
    EvaluationOptions,
    evaluate,
    log_grid,
)
from closedform.learned_optimizers import load_learned_optimizer
from closedform.rules import load_rule

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("fine-tuning-fashion-mnist", "implicit-image", "burgers", "factorisation", "deep-linear")
NETWORK, DISTILLED, TUNED, REFERENCE = "celo", "distilled", "tuned", "adamw-cosine"
LABELS = {
    REFERENCE: "AdamW-cosine, best of 13 rates for each task",
    NETWORK: "celo, the network",
    DISTILLED: "rule distilled from it",
    TUNED: "that rule, tuned",
}
CLOSE = 1.05
"""A distilled rule's loss over the network's that still counts as the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/celo"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    found = compared(given.data_dir, given.seeds, given.workers, given.runs)
    text = report(found)
    print(text)
    write_text(RESULTS / "celo.md", text)
    write_text(RESULTS / "celo.json", found.to_json())


def compared(data_dir: Path | None, seeds: int, workers: int, out: Path) -> Evaluation:
    """All four on all tasks."""
    adamw = Baseline(load_rule("adamw"), LABELS[REFERENCE], log_grid(-4, 0), schedules=("cosine",), extensions=0)
    entrants = {
        REFERENCE: adamw,
        NETWORK: load_learned_optimizer("celo"),
        DISTILLED: load_rule(RESULTS / "celo_distilled.json"),
        TUNED: load_rule(RESULTS / "celo_tuned.json"),
    }
    return evaluate(
        entrants,
        [tasks.get(name, data_dir=data_dir) for name in TASKS],
        seeds=seeds,
        baselines=(),
        options=EvaluationOptions(tuning_seeds=1, tail=50, workers=workers),
        out=out,
        progress=lambda done, known, what: print(f"{done}/{known} {what}", flush=True),
    )
