"""Options of the whole pipeline: one value per stage, and presets."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from closedform._names import lookup
from closedform._options import check_count, check_seed
from closedform.distillation import DistillConfig
from closedform.evaluation import check_schedules
from closedform.learned_optimizers import CLOCKS
from closedform.meta_training import EvolveConfig, MetaTrainConfig
from closedform.trajectories import RecordConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """How the comparison is run.

    Attributes:
        seeds: Reporting seeds.
        tuning_seeds: Seeds that a baseline's learning rate is tuned on.
        baselines: Hand-designed optimizers, each with a tuned learning rate.
        schedules: Schedules of the learning rate that they are tuned over.
    """

    seeds: int = 10
    tuning_seeds: int = 3
    baselines: tuple[str, ...] = ("sgd", "momentum", "rmsprop", "adam", "adamw")
    schedules: tuple[str, ...] = ("constant", "cosine")

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds)
        check_count("tuning_seeds", self.tuning_seeds)
        check_schedules(self.schedules)


@dataclass(frozen=True)
class ChooseConfig(EvaluateConfig):
    """How the rule that is handed over is chosen: a comparison too, on the half of the data that meta-training uses.

    Attributes:
        longer: The validation's second task is the same with so many times the steps, which nothing was tuned on.
    """

    seeds: int = 16
    baselines: tuple[str, ...] = ("momentum", "adam", "adamw")
    schedules: tuple[str, ...] = ("cosine",)
    longer: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("longer", self.longer, 2)


SEEDED = ("train", "record", "distill", "screen", "tune")
"""Stages whose options hold a seed."""
_TRAIN = MetaTrainConfig(steps=1200, objective="log", lr=1e-3, final_lr=0.1, validate_every=100)
_DISTILL = DistillConfig(max_complexity=30, max_state_cost=4, time_limit=120.0)
_SCREEN = EvolveConfig(
    generations=6,
    population=10,
    tasks=1,
    episodes=4,
    worse=1.0,
    lowest=-8.0,
    highest=8.0,
    validate_every=6,
    workers=min(2, os.cpu_count() or 1),
)
_TUNE = dataclasses.replace(_SCREEN, generations=24, episodes=8)


@dataclass(frozen=True)
class RunConfig:
    """What `run` does.

    Attributes:
        task: The task; meta-training uses its split ``train``, the comparison ``eval``.
        optimizer: The learned optimizer to meta-train.
        clock: What a recurrent network knows the time by: see ``RecurrentOptimizer``.
        seed: Seeds every stage.
        unroll: Steps of a truncated window of meta-training.
        sizes: Besides the equation chosen by its fidelity, the most faithful ones of at most so many nodes are tuned
            briefly too; the one that trains best afterwards is tuned in full.
        threads: Torch threads of meta-training and recording.
        train, record, distill, screen, tune, choose, evaluate: Options of the stages (``screen`` is the brief tuning);
            their seeds are set from ``seed``. A recording is at most as long as the task's horizon. By default
            equations keep at most four buffers a parameter.
    """

    task: str = "mlp-digits"
    optimizer: str = "rp-si"
    clock: str = "progress"
    seed: int = 0
    unroll: int = 20
    sizes: tuple[int, ...] = (8, 16)
    threads: int = 1
    train: MetaTrainConfig = _TRAIN
    record: RecordConfig = field(default_factory=lambda: RecordConfig(steps=1000))
    distill: DistillConfig = _DISTILL
    screen: EvolveConfig = _SCREEN
    tune: EvolveConfig = _TUNE
    choose: ChooseConfig = field(default_factory=ChooseConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        for name in ("unroll", "threads"):
            check_count(name, getattr(self, name))
        for nodes in self.sizes:
            check_count("each of sizes", nodes)
        lookup("clock", self.clock, CLOCKS)
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
    distill=DistillConfig(generations=3, population=100, rows=200, max_state_cost=4, time_limit=20),
    screen=dataclasses.replace(_SCREEN, generations=1, population=4, episodes=1, workers=1),
    tune=dataclasses.replace(_SCREEN, generations=2, population=4, episodes=1, workers=1),
    choose=ChooseConfig(seeds=2, tuning_seeds=1, baselines=("adam",)),
    evaluate=EvaluateConfig(seeds=2, tuning_seeds=1, baselines=("sgd", "adam"), schedules=("cosine",)),
    sizes=(8,),
)
PRESETS: dict[str, RunConfig] = {"default": RunConfig(), "smoke": _SMOKE}
"""Name -> options: ``default`` takes minutes, ``smoke`` seconds (it shows that all works, not how well)."""


def preset(name: str) -> RunConfig:
    """The options of that name.

    Raises:
        UnknownNameError: there is no such preset.
    """
    return lookup("preset", name, PRESETS)
