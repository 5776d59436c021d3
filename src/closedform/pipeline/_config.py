"""Options of the whole pipeline: one value per stage, and presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from closedform._names import lookup
from closedform._options import check_count, check_seed
from closedform.distillation import DistillConfig
from closedform.meta_training import TUNING, TUNING_UNROLL, MetaTrainConfig
from closedform.trajectories import RecordConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """How the comparison is run.

    Attributes:
        seeds: Reporting seeds.
        tuning_seeds: Seeds that a baseline's learning rate is tuned on.
        baselines: Hand-designed optimizers, each with a tuned learning rate.
    """

    seeds: int = 10
    tuning_seeds: int = 3
    baselines: tuple[str, ...] = ("sgd", "momentum", "rmsprop", "adam")

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds)
        check_count("tuning_seeds", self.tuning_seeds)


SEEDED = ("train", "record", "distill", "screen", "tune")
"""Stages whose options hold a seed."""
_TRAIN = MetaTrainConfig(steps=1200, objective="log", lr=1e-3, final_lr=1.0, validate_every=100)
_SCREEN = dataclasses.replace(TUNING, steps=100, validation_episodes=8)
_TUNE = dataclasses.replace(TUNING, lr=0.01, validation_episodes=16)


@dataclass(frozen=True)
class RunConfig:
    """What `run` does.

    Attributes:
        task: The task; meta-training uses its split ``train``, the comparison ``eval``.
        optimizer: The learned optimizer to meta-train.
        seed: Seeds every stage.
        unroll: Steps of a truncated window of meta-training.
        tune_unroll: Steps of a window of meta-tuning.
        sizes: Besides the equation chosen by its fidelity, the most faithful ones of at most so many nodes are tuned
            briefly too; the one that trains best afterwards is kept and tuned in full.
        threads: Torch threads of meta-training, recording and meta-tuning.
        train, record, distill, screen, tune, evaluate: Options of the stages (``screen`` is the brief tuning); their
            seeds are set from ``seed``. A recording is at most as long as the task's horizon.
    """

    task: str = "mlp-digits"
    optimizer: str = "rp-si"
    seed: int = 0
    unroll: int = 20
    tune_unroll: int = TUNING_UNROLL
    sizes: tuple[int, ...] = (8, 14, 20)
    threads: int = 1
    train: MetaTrainConfig = _TRAIN
    record: RecordConfig = field(default_factory=lambda: RecordConfig(steps=1000))
    distill: DistillConfig = field(default_factory=lambda: DistillConfig(max_complexity=30, time_limit=120.0))
    screen: MetaTrainConfig = _SCREEN
    tune: MetaTrainConfig = _TUNE
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        for name in ("unroll", "tune_unroll", "threads"):
            check_count(name, getattr(self, name))
        for nodes in self.sizes:
            check_count("each of sizes", nodes)
        check_seed("seed", self.seed)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    def with_seed(self, seed: int) -> RunConfig:
        """The same with another seed in every stage."""
        stages = {name: dataclasses.replace(getattr(self, name), seed=seed) for name in SEEDED}
        return dataclasses.replace(self, seed=seed, **stages)


_SMOKE = RunConfig(
    train=MetaTrainConfig(steps=20, validate_every=10, validation_episodes=1, checkpoint_every=5),
    record=RecordConfig(steps=40, episodes=4, samples=800, coordinates=24),
    distill=DistillConfig(generations=3, population=100, rows=200, time_limit=20),
    screen=MetaTrainConfig(steps=2, validate_every=1, validation_episodes=1, checkpoint_every=1),
    tune=MetaTrainConfig(steps=6, validate_every=3, validation_episodes=1, checkpoint_every=2),
    evaluate=EvaluateConfig(seeds=2, tuning_seeds=1, baselines=("sgd", "adam")),
    tune_unroll=20,
)
PRESETS: dict[str, RunConfig] = {"default": RunConfig(), "smoke": _SMOKE}
"""Name -> options: ``default`` takes minutes, ``smoke`` seconds (it shows that all works, not how well)."""


def preset(name: str) -> RunConfig:
    """The options of that name.

    Raises:
        UnknownNameError: there is no such preset.
    """
    return lookup("preset", name, PRESETS)
