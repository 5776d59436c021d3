"""Inner steps a second of ``evolve``, against a plain loop over candidates.

    python benchmarks/evolution.py [--workers 2] [--rounds 5] [--out benchmarks/results]

An inner step is one step of one candidate on one task. Both sides train ``mlp-digits`` (64-20-10, 1,510 parameters,
batches of 128) by AdamW's formula with 17 learning rates, in as many processes; the plain loop is what one would write
first, a module, a torch optimizer and a backward pass for each candidate in turn. Rounds alternate, and the table has
medians and best rounds. Writes evolution.json and evolution.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from optimizer_step import machine

from closedform import EvolveConfig, evolve, load_rule, tasks
from closedform.tasks import Task

CANDIDATES = 17
"""Sixteen of a generation, and the search's mean."""
HORIZON = 200
TASKS = 4
"""Episodes a generation."""


def plain_loop(seed: int, task: Task) -> int:
    """Train every candidate by itself; the number of steps taken."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    start = task.init(generator)
    batches = [task.batch("train", generator) for _ in range(HORIZON)]
    for number in range(CANDIDATES):
        params = {name: value.clone().requires_grad_() for name, value in start.items()}
        optimizer = torch.optim.AdamW(params.values(), lr=0.001 * (number + 1), weight_decay=0.0)
        for batch in batches:
            optimizer.zero_grad()
            task.loss(params, batch).backward()
            optimizer.step()
    return CANDIDATES * HORIZON


def by_plain_loop(task: Task, parallel: Parallel, workers: int, seed: int) -> float:
    """Steps a second of one episode a process."""
    begin = time.perf_counter()
    steps = parallel(delayed(plain_loop)(seed + number, task) for number in range(workers))
    return sum(steps) / (time.perf_counter() - begin)


def by_evolve(task: Task, workers: int, seed: int, generations: int) -> float:
    """Steps a second of the generations after the first, which starts the processes."""
    ends: list[float] = []

    def follow(record: Mapping[str, Any]) -> None:
        ends.append(record["seconds"])

    config = EvolveConfig(
        generations=generations + 1,
        population=CANDIDATES - 1,
        tasks=TASKS,
        validate_every=10**6,
        seed=seed,
        workers=workers,
    )
    evolve(load_rule("adam"), [task] * TASKS, trainable=("lr", "beta1", "beta2"), config=config, on_record=follow)
    return generations * TASKS * CANDIDATES * HORIZON / (ends[-1] - ends[0])


def measure(workers: int, rounds: int) -> dict[str, list[float]]:
    task = tasks.get("mlp-digits", horizon=HORIZON)
    found: dict[str, list[float]] = {"plain loop": [], "evolve": []}
    with Parallel(n_jobs=workers) as parallel:
        by_plain_loop(task, parallel, workers, 0)  # starts the processes
        for number in range(rounds):
            found["plain loop"].append(by_plain_loop(task, parallel, workers, number))
            found["evolve"].append(by_evolve(task, workers, number, generations=6))
    return found


def markdown(about: dict[str, object], found: dict[str, list[float]]) -> str:
    base = found["plain loop"]
    lines = ["# Inner steps of evolution", "", ", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["`python benchmarks/evolution.py`: mlp-digits, 17 candidates, 200 steps; inner steps a second.", ""]
    lines += [
        "| contender | median | best | over the plain loop | best over best | asked |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, speeds in found.items():
        median, best = statistics.median(speeds), max(speeds)
        ratios = f"{median / statistics.median(base):.3g} | {best / max(base):.3g}"
        lines.append(f"| {name} | {median:.0f} | {best:.0f} | {ratios} | {'>= 5000' if name == 'evolve' else ''} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    about = {**machine(1), "processes": options.workers}
    found = measure(options.workers, options.rounds)
    text = markdown(about, found)
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": about, "inner steps a second": found}
    (options.out / "evolution.json").write_text(json.dumps(document, indent=2) + "\n")
    (options.out / "evolution.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
