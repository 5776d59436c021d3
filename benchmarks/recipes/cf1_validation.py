"""Score a rule, untuned, on larger tasks than it was evolved on, drawn anew, beside AdamW-cosine tuned for each.

    python benchmarks/recipes/cf1_validation.py [RULE] [--draws 3] [--data-dir DIR] [--workers 2]

The tasks are one of each family of ``cf1.py``'s distribution, larger and longer, from seeds that no search has used.
AdamW has no decay, 5 % warm-up, a cosine, and the best of 13 learning rates for each task, on the seed that is
reported: its best case. Writes benchmarks/results/cf1_validation.md and .json.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from cf1 import small
from joblib import Parallel, delayed

from closedform._files import write_text
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training._references import final_losses, reference
from closedform.reproduce._base import measured_on
from closedform.rules import load_rule
from closedform.tasks import Task

RESULTS = Path(__file__).resolve().parent.parent / "results"
FIRST_SEED = 100
"""Of the draws; the search used 1 and 2."""


def scored(rule: str, task: Task, seed: int) -> dict[str, Any]:
    """The rule's final loss on a task, the reference's, and what the difference is worth."""
    torch.set_num_threads(1)
    beside = reference(task, task.horizon, seed)
    optimizer = SymbolicOptimizer(load_rule(rule), [])
    update = optimizer.bind_stacked(torch.zeros(1, 0, dtype=torch.float64))
    loss = final_losses(optimizer, update, 1, task, task.horizon, seed)
    return {
        "task": task.name,
        "draw": seed,
        "size": task.size,
        "steps": task.horizon,
        "adamw": asdict(beside),
        "loss": float(loss),
        "score": float(beside.score(loss)),
    }


def summary(rows: list[dict[str, Any]]) -> str:
    ratios = [row["loss"] / row["adamw"]["loss"] for row in rows]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return (
        f"Better on {sum(ratio < 1 for ratio in ratios)} of {len(rows)} tasks; geometric mean of the ratios of final "
        f"losses {mean:.3f}, worst {max(ratios):.2f}; mean score {sum(row['score'] for row in rows) / len(rows):.2f} "
        "(0: as AdamW; -1: what AdamW gains from twice the steps)."
    )


def table(rule: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"# {rule}, untuned, on tasks drawn anew",
        "",
        f"{measured_on()}. `python benchmarks/recipes/cf1_validation.py`.",
        "",
        summary(rows),
        "",
        f"| task | draw | parameters | steps | AdamW-cosine, best of 13 rates | {rule} | ratio | score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = row["adamw"]["loss"]
        lines.append(
            f"| {row['task']} | {row['draw']} | {row['size']} | {row['steps']} | {best:.4g} | {row['loss']:.4g} "
            f"| {row['loss'] / best:.3f} | {row['score']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", nargs="?", default="cf1")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    larger = small(given.data_dir).larger()
    drawn = [(task, seed) for seed in range(FIRST_SEED, FIRST_SEED + given.draws) for task in larger.one_of_each(seed)]
    rows: list[dict[str, Any]] = []
    for row in Parallel(n_jobs=given.workers, return_as="generator_unordered")(
        delayed(scored)(given.rule, task, seed) for task, seed in drawn
    ):
        rows.append(row)
        print(
            f"{len(rows)}/{len(drawn)} {row['task']}: {row['loss']:.4g}, AdamW {row['adamw']['loss']:.4g}", flush=True
        )
    rows.sort(key=lambda row: (row["draw"], row["task"]))
    text = table(Path(given.rule).stem, rows)
    print(text)
    write_text(RESULTS / "cf1_validation.md", text)
    write_text(RESULTS / "cf1_validation.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
