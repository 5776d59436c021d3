"""Evolve the constants of ``cf1``, the rule that ships, the way it was done.

    python benchmarks/recipes/cf1.py [--runs runs/cf1] [--data-dir DIR] [--workers 2] [--generations 40]

The form is ``cf1_start.json``; docs/experiments.md tells how it came about. CMA-ES moves its nine constants and the
horizon's power over whole episodes of small tasks; the candidate that is kept does best on larger and longer ones. The
ten tasks of ``closedform reproduce unseen`` play no part. An interrupted run continues. Data: digits, mnist1d and
Python's source, and MNIST and Fashion-MNIST where they are found; the pool depends on which are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedform import TaskDistribution
from closedform.meta_training import EvolveConfig, evolve
from closedform.rules import load_rule

HERE = Path(__file__).resolve().parent
TRAINED = ("c", "q", "warmup", "b1", "b2", "floor", "h", "a", "s")
POOL = 64


def small(data_dir: Path | None) -> TaskDistribution:
    """Most of them narrow and short."""
    return TaskDistribution(
        horizon=(80, 2500),
        budget=1200.0,
        width=(12, 64),
        depth=(1, 4),
        reparametrise=0.12,
        reparametrise_all=0.08,
        factors=(1 / 30, 30.0),
        label_noise=0.2,
        data_dir=data_dir,
    )


def show(record: Mapping[str, Any]) -> None:
    shown = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in record.values())
    print("  ".join(f"{key} {text}" for key, text in zip(record, shown, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/cf1"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--generations", type=int, default=40)
    given = parser.parse_args()
    rule = evolve(
        load_rule(HERE / "cf1_start.json"),
        small(given.data_dir).tasks(POOL, seed=1),
        small(given.data_dir).larger().one_of_each(seed=2),
        trainable=TRAINED,
        config=EvolveConfig(
            generations=given.generations, population=14, tasks=16, sigma=0.25, validate_every=8, workers=given.workers
        ),
        out=given.runs,
        resume=True,
        on_record=show,
    )
    print(rule.to_json())


if __name__ == "__main__":
    main()
