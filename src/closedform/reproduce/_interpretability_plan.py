"""How much the reproduction of the table of interpretability does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from closedform import tasks
from closedform.distillation import DistillConfig
from closedform.meta_training import MetaTrainConfig
from closedform.reproduce._interpretability_models import Training
from closedform.tasks import Task
from closedform.trajectories import RecordConfig

OPTIMIZEE: Mapping[str, Any] = {"hidden": (20,), "activation": "tanh", "init_std": None}
"""In place of two hidden layers of ReLU and small weights. On those the plain networks learn nothing in so few
meta-steps: an untrained one drives the optimizee to where all units are dead, or never leaves its first plateau."""


@dataclass(frozen=True)
class Plan:
    """What is trained, recorded, distilled and evaluated.

    Attributes:
        training: The meta-training of all networks.
        optimizee: What its task trains, in words.
        recording: What is recorded of a network at work on the training's task; its features and seed are set later.
        distillation: How it is distilled; its seed is set later.
        evaluated: Where the losses are taken, with the length of their episodes.
        seeds, loss_seeds: Networks of each model, and episodes of each of them.
        lags: Steps that the perception field looks back; past them it is carried on.
        candidates, trials: Equations that are tried for the choice of a rule, and episodes of each.
    """

    training: Training
    optimizee: str
    recording: RecordConfig
    distillation: DistillConfig
    evaluated: Task
    seeds: int
    loss_seeds: int = 4
    lags: int = 128
    candidates: int = 4
    trials: int = 1

    def describe(self) -> dict[str, Any]:
        """What decides over the numbers, a JSON object; not the number of seeds."""
        training, told = self.training, {"task": self.training.task.name, "horizon": self.training.task.horizon}
        options = {name: getattr(training, name) for name in ("curriculum", "unroll", "coordinates", "teacher_lr")}
        counts = {name: getattr(self, name) for name in ("loss_seeds", "lags", "candidates", "trials")}
        evaluated = {"task": self.evaluated.name, "horizon": self.evaluated.horizon}
        return {
            "training": {**told, "optimizee": self.optimizee, **options, "config": training.config.describe()},
            "recording": asdict(self.recording),
            "distillation": asdict(self.distillation),
            "evaluated": evaluated,
            **counts,
        }


def full_plan(seeds: int, time_limit: float, data_dir: str | Path | None) -> Plan:
    """Half an hour to an hour on one core."""
    trained_on, evaluated = (
        tasks.get("mlp-small-mnist", data_dir=data_dir, horizon=horizon, **OPTIMIZEE) for horizon in (300, 620)
    )
    config = MetaTrainConfig(
        steps=100,
        lr=0.005,
        final_lr=0.1,
        warmup=10,
        batch=4,
        objective="log",
        validate_every=10,
        validation_episodes=2,
        checkpoint_every=25,
    )
    training = Training(trained_on, config, curriculum=(60, 150), coordinates=1000)
    recording = RecordConfig(steps=300, episodes=4, coordinates=60, samples=6000)
    distillation = DistillConfig(time_limit=time_limit, max_complexity=60, threads=1)
    return Plan(training, "one hidden layer of 20 tanh", recording, distillation, evaluated, seeds)


def quick_plan() -> Plan:
    """Digits alone, little of everything: seconds."""
    task = tasks.get("mlp-digits", horizon=40, activation="tanh", init_std=None)
    config = MetaTrainConfig(
        steps=12, lr=0.01, warmup=0, batch=2, objective="log", validate_every=4, validation_episodes=1
    )
    training = Training(task, config, curriculum=(10,), unroll=10, coordinates=200)
    recording = RecordConfig(steps=40, episodes=3, coordinates=16, samples=600)
    distillation = DistillConfig(time_limit=0.3, generations=1, threads=1)
    return Plan(
        training,
        "one hidden layer of 20 tanh",
        recording,
        distillation,
        task,
        seeds=2,
        loss_seeds=2,
        lags=8,
        candidates=2,
    )
