"""Meta-train the network ``celo`` on a distribution of tasks, the way it was done.

    python benchmarks/recipes/celo.py [--runs runs/recipes] [--data-dir DIR] [--ship]

Four stages, each from where the last one validated best. First its schedule alone, six numbers, by antithetic
evolution strategies on whole episodes, by where they end. Then the direction alone, by truncated backpropagation. Then
everything, by evolution strategies on whole episodes again; and so once more on longer tasks, where steps that were
right for short ones turned out to be too long. An interrupted run continues. ``--ship`` writes the weights and this
recipe into the package.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from closedform import TaskDistribution, learned_optimizers
from closedform.meta_training import (
    AntitheticES,
    Estimator,
    MetaTrainConfig,
    MetaTrainResult,
    TruncatedBPTT,
    meta_train,
)

SHIPPED = Path(learned_optimizers.__file__).parent / "pretrained"
SCHEDULE = "schedule"


@dataclass(frozen=True)
class Stage:
    """One run of meta-training: how gradients are estimated, the options, which parameters move, and where."""

    estimator: Estimator
    config: MetaTrainConfig
    schedule: bool
    direction: bool
    longer: bool = False


def distribution(data_dir: Path | None) -> TaskDistribution:
    """Small and short tasks; ``eval`` and longer ones are for judging what comes out."""
    return TaskDistribution(
        horizon=(50, 500), budget=400.0, width=(8, 32), batch_size=(16, 64), label_noise=0.2, data_dir=data_dir
    )


def longer(data_dir: Path | None) -> TaskDistribution:
    """Wider and up to three times as long, fewer of them in other units."""
    return replace(
        distribution(data_dir),
        horizon=(200, 1500),
        budget=1800.0,
        width=(8, 48),
        reparametrise=0.15,
        reparametrise_all=0.15,
        label_noise=0.1,
    )


def _config(**options: Any) -> MetaTrainConfig:
    common = {"warmup": 5, "batch": 2, "validation_tasks": 24, "validation_episodes": 1, "normalise": "gradient-norm"}
    return MetaTrainConfig(**{**common, "checkpoint_every": 10, **options})


WHOLE = 500
STAGES: tuple[Stage, ...] = (
    Stage(
        AntitheticES(WHOLE, std=0.02, pairs=4),
        _config(steps=100, lr=0.01, final_lr=0.2, objective="clipped-late", validate_every=25),
        schedule=True,
        direction=False,
    ),
    Stage(
        TruncatedBPTT(40),
        _config(steps=1200, lr=0.003, final_lr=0.05, objective="clipped", validate_every=100, seed=1),
        schedule=False,
        direction=True,
    ),
    Stage(
        AntitheticES(WHOLE, std=0.01, pairs=6),
        _config(steps=300, lr=0.002, final_lr=0.1, objective="clipped-late", validate_every=30, seed=2),
        schedule=True,
        direction=True,
    ),
    Stage(
        AntitheticES(3 * WHOLE, std=0.01, pairs=4),
        _config(
            steps=110,
            lr=0.004,
            final_lr=0.1,
            objective="clipped-late",
            validate_every=20,
            validation_tasks=16,
            seed=3,
        ),
        schedule=True,
        direction=True,
        longer=True,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--ship", action="store_true", help="write the weights into the package")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="unroll .* is longer than the horizon")
    optimizer = learned_optimizers.get("celo", generator=torch.Generator().manual_seed(0))
    recipe: dict[str, Any] = {"command": "python benchmarks/recipes/celo.py", "split": "train", "stages": []}
    for number, stage in enumerate(STAGES, start=1):
        tasks = (longer if stage.longer else distribution)(arguments.data_dir)
        result = train(optimizer, tasks, stage, arguments.runs / f"celo-{number}")
        recipe["stages"].append({"tasks": tasks.describe(), **described(stage, result)})
    if arguments.ship:
        path = SHIPPED / "celo.safetensors"
        learned_optimizers.save_learned_optimizer(optimizer, path, recipe)
        print(f"shipped: {path}")


def train(
    optimizer: learned_optimizers.LearnedOptimizer, tasks: TaskDistribution, stage: Stage, out: Path
) -> MetaTrainResult:
    for name, parameter in optimizer.named_parameters():
        parameter.requires_grad_(stage.schedule if name == SCHEDULE else stage.direction)
    return meta_train(
        optimizer, tasks, estimator=stage.estimator, config=stage.config, out=out, resume=True, on_record=report
    )


def described(stage: Stage, result: MetaTrainResult) -> dict[str, Any]:
    return {
        "trained": [name for name, moves in (("schedule", stage.schedule), ("direction", stage.direction)) if moves],
        "estimator": stage.estimator.describe(),
        "config": asdict(stage.config),
        "best_step": result.best_step,
        "validation": {"first": result.first_validation, "best": result.best_validation},
        "seconds": round(result.seconds),
    }


def report(record: Any) -> None:
    if "validation" in record or record["step"] % 10 == 0:
        shown = {key: record.get(key) for key in ("step", "validation", "meta_loss", "gradient_norm", "diverged")}
        print({key: round(value, 4) for key, value in shown.items() if value is not None}, flush=True)


if __name__ == "__main__":
    main()
