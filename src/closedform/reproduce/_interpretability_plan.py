"""How much the reproduction of the table of interpretability does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closedform import tasks
from closedform.meta_training import MetaTrainConfig
from closedform.reproduce._faithful import STATES, Study
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
        study: Recordings and distillations.
        evaluated: Where the losses are taken; ``evaluated_steps`` long.
        loss_seeds: Seeds of each of them.
        lags: Steps that the perception field looks back.
        candidates, trials: Equations that are tried for the choice of a rule, and episodes of each.
    """

    training: Training
    study: Study
    evaluated: Task
    seeds: int
    loss_seeds: int = 4
    lags: int = 128
    candidates: int = 4
    trials: int = 1


def full_plan(seeds: int, time_limit: float, data_dir: str | Path | None) -> Plan:
    """Half an hour to an hour on one core."""
    trained_on, other = (
        tasks.get(name, data_dir=data_dir, horizon=300, **OPTIMIZEE)
        for name in ("mlp-small-mnist", "mlp-small-fashion-mnist")
    )
    evaluated = tasks.get("mlp-small-mnist", data_dir=data_dir, horizon=620, **OPTIMIZEE)
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
    study = Study(trained_on, other, recording, fresh_episodes=1, window=0, time_limits={STATES: time_limit})
    return Plan(training, study, evaluated, seeds)


def quick_plan() -> Plan:
    """Digits alone, little of everything: seconds."""
    task = tasks.get("mlp-digits", horizon=40, activation="tanh", init_std=None)
    config = MetaTrainConfig(
        steps=6, lr=0.01, warmup=0, batch=1, objective="log", validate_every=2, validation_episodes=1
    )
    training = Training(task, config, curriculum=(10,), unroll=10, coordinates=200)
    recording = RecordConfig(steps=40, episodes=3, coordinates=16, samples=600)
    study = Study(task, task, recording, fresh_episodes=1, window=0, time_limits={STATES: 0.3})
    return Plan(training, study, task, seeds=2, loss_seeds=2, lags=8, candidates=2)
