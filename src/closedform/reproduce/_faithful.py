"""How faithful distilled rules are to a network: recordings, searches, R^2 on fresh episodes, and what is reachable.

A rule is judged as a rule: it runs over fresh episodes from their first step on the recorded gradients, its own states
included, and its updates at the recording's rows are compared with the network's. Nothing is clipped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedform.distillation import DistillConfig, HallOfFame, distill
from closedform.learned_optimizers import LearnedOptimizer
from closedform.reproduce._replay import rule_updates
from closedform.reproduce._shipped import reported
from closedform.rules import Rule
from closedform.tasks import Task
from closedform.trajectories import RecordConfig, Trajectories, record, run_source

TIME, PROGRESS = "steps", "progress"
"""The first is offered beside a network's own features, unless the second is among them: networks learn to take smaller
steps as an episode goes on."""
FRESH = 900_000
"""Added to a seed: recordings on which rules are judged, unlike any that was fitted or held out."""
CLOSE = 1e-3
"""R^2 that the rule shown may lack of the best one's, if it is smaller."""
STATES, WINDOW = "states", "window"
SPACES: Mapping[str, Mapping[str, Any]] = {STATES: {}, WINDOW: {"decays": (), "generations": 20}}
"""Search space -> options: recurrences with fitted decays, and the paper's expressions over past features."""


@dataclass(frozen=True)
class Study:
    """What is recorded and searched.

    Attributes:
        recorded, other: The tasks P1, on which a rule is distilled, and P2.
        config: The recordings that rules are distilled from; ``features``, ``window`` and ``seed`` are set here.
        fresh_episodes: Episodes of the recordings that they are judged on.
        window: Steps that the paper's columns look back.
        time_limits: Search space -> seconds of a distillation.
        trees: Boosted trees that show the ceiling.
    """

    recorded: Task
    other: Task
    config: RecordConfig
    fresh_episodes: int
    window: int
    time_limits: Mapping[str, float]
    trees: int = 200


@dataclass(frozen=True)
class Fidelity:
    """One distillation of one network, or the ceiling.

    Attributes:
        space: ``states``, ``window`` or ``ceiling``.
        p1, p2: R^2 on fresh episodes of the recorded task and of the other one; minus infinity if not finite.
        seconds: Of the distillation.
        complexity, state_cost, equation: Of the rule shown; of the ceiling nothing.
    """

    space: str
    p1: float
    p2: float
    seconds: float
    complexity: int = 0
    state_cost: int = 0
    equation: str = ""


def fidelities(
    name: str, network: LearnedOptimizer, study: Study, seed: int
) -> tuple[tuple[Fidelity, ...], HallOfFame]:
    """The ceiling, then both search spaces; and the hall of fame of the states."""
    recording = recorded(network, study.recorded, study, seed)
    fresh = [
        recorded(network, task, study, seed + FRESH, study.fresh_episodes) for task in (study.recorded, study.other)
    ]
    window, _ = searched(name, WINDOW, recording, fresh, study, seed)
    states, hall = searched(name, STATES, without_lags(recording), fresh, study, seed)
    return (ceiling(recording, fresh, study.trees, seed), states, window), hall


def searched(
    name: str, space: str, recording: Trajectories, fresh: Sequence[Trajectories], study: Study, seed: int
) -> tuple[Fidelity, HallOfFame]:
    """One search space: its most faithful rule within the nodes, and in the states the buffers, that are asked for."""
    limits = reported(name)
    config = DistillConfig(
        time_limit=study.time_limits[space],
        seed=seed,
        max_complexity=limits.max_complexity,
        max_state_cost=limits.max_state_cost if space == STATES else None,
        **SPACES[space],
    )
    begin = time.monotonic()
    hall = distill(recording, config=config)
    seconds = time.monotonic() - begin
    entry = hall.choose(tolerance=CLOSE)
    p1, p2 = (rule_r2(entry.rule, part) for part in fresh)
    return Fidelity(space, p1, p2, seconds, entry.complexity, entry.state_cost, entry.equation), hall


def recorded(
    network: LearnedOptimizer, task: Task, study: Study, seed: int, episodes: int | None = None
) -> Trajectories:
    """A network at work on a task: its features and the step, over the window."""
    time_too = () if PROGRESS in network.features else (TIME,)
    features = tuple(dict.fromkeys((*network.features, *time_too)))
    config = replace(study.config, features=features, window=study.window, seed=seed)
    return record(network, task, config if episodes is None else replace(config, episodes=episodes))


def without_lags(recording: Trajectories) -> Trajectories:
    """The recording with the present values of its signals alone."""
    present = [index for index, column in enumerate(recording.columns) if column.lag == 0]
    columns = tuple(recording.columns[index] for index in present)
    return replace(recording, columns=columns, features=recording.features[:, present])


def rule_r2(rule: Rule, recording: Trajectories) -> float:
    """R^2 at a recording's rows of the updates that a rule gives for its gradients."""
    updates = rule_updates(rule, recording.gradients.double(), recording.weights.double())
    return r2(updates[recording.positions()], recording.updates)


def r2(predicted: Tensor, truth: Tensor) -> float:
    """1 - sum (y - p)^2 / sum (y - mean y)^2; minus infinity if a prediction is not finite."""
    y = truth.double()
    value = 1 - float((y - predicted).square().sum() / (y - y.mean()).square().sum())
    return value if math.isfinite(value) else -math.inf


def ceiling(recording: Trajectories, fresh: Sequence[Trajectories], trees: int, seed: int) -> Fidelity:
    """What boosted trees reach on the same columns and their moving averages: about what there is to be had."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    begin = time.monotonic()
    model = HistGradientBoostingRegressor(max_iter=trees, early_stopping=False, random_state=seed)
    scale = float(recording.updates.double().std())
    model.fit(columns_and_averages(recording), recording.updates.double().numpy() / scale)
    seconds = time.monotonic() - begin
    found = [torch.from_numpy(model.predict(columns_and_averages(part))) * scale for part in fresh]
    p1, p2 = (r2(predicted, part.updates) for predicted, part in zip(found, fresh, strict=True))
    return Fidelity("ceiling", p1, p2, seconds)


def columns_and_averages(recording: Trajectories) -> NDArray[np.float64]:
    """The columns of a recording's rows, and moving averages of its signals at the decays of distillation; [N, K]."""
    signals = run_source(recording.source, recording.gradients, recording.weights)
    moving = torch.stack([values for name, values in signals.items() if name not in (TIME, PROGRESS)])  # [F, E, T, C]
    episode, step, coordinate = recording.positions()
    parts = [recording.features.double()]
    for decay in DistillConfig().decays:
        average, history = torch.zeros_like(moving[:, :, 0]), torch.empty_like(moving)
        for index in range(moving.shape[2]):
            average = decay * average + (1 - decay) * moving[:, :, index]
            history[:, :, index] = average
        parts.append(history[:, episode, step, coordinate].T)
    return torch.cat(parts, dim=1).numpy()
