"""CMA-ES over whole episodes: it finds known optima, resumes bit for bit, and keeps what validates best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from closedform import tasks
from closedform.errors import CheckpointError, OptionError, UnknownNameError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training import EvolveConfig, evolve, read_evolution
from closedform.meta_training._references import Reference, final_losses
from closedform.rules import load_rule
from closedform.tasks import Task

QUICK = EvolveConfig(generations=4, population=6, tasks=2, validate_every=2)


def _quadratic(horizon: int, condition: float = 10.0) -> Task:
    task = tasks.get("quadratic", dim=5, condition=condition).to(dtype=torch.float64)
    task.horizon = horizon
    return task


def test_finds_the_learning_rate_that_a_grid_finds() -> None:
    task, sgd = _quadratic(15), load_rule("sgd")
    h, vectors = torch.linalg.eigh(task.matrix.T @ task.matrix)
    generator = torch.Generator().manual_seed(0)
    starts = torch.stack([task.init(generator)["w"] for _ in range(500)])
    distances = ((starts - task.solution) @ vectors).square()

    def mean_log_loss(lr: float) -> float:
        """Along an eigenvector of A'A with eigenvalue h, the distance shrinks by (1 - lr h) a step."""
        return float((0.5 * distances * h * (1 - lr * h) ** 30).sum(-1).log().mean())

    config = EvolveConfig(generations=25, population=8, tasks=1, sigma=1.0, lowest=-50.0)
    tuned = evolve(sgd, [task], config=config)
    best = min(mean_log_loss(lr) for lr in np.arange(0.01, 2.0, 0.01))
    assert mean_log_loss(sgd.lr) > best + 2
    assert mean_log_loss(tuned.lr) < best + 0.3
    assert tuned.provenance["evolution"]["from"] == {"lr": sgd.lr}


def test_a_resumed_run_is_the_one_never_stopped(tmp_path: Path) -> None:
    pool, validation = [_quadratic(10), _quadratic(12, 5.0)], [_quadratic(20)]
    rule = load_rule("momentum")
    whole = evolve(rule, pool, validation, config=QUICK, out=tmp_path / "whole")
    evolve(rule, pool, validation, config=replace(QUICK, generations=2), out=tmp_path / "parts")
    records = []
    parts = evolve(rule, pool, validation, config=QUICK, out=tmp_path / "parts", resume=True, on_record=records.append)
    assert [record["generation"] for record in records] == [3, 4]
    assert parts == whole
    first, second = (json.loads((tmp_path / name / "evolution.json").read_text()) for name in ("whole", "parts"))
    assert first == second


def test_the_records_of_a_run_can_be_read_again(tmp_path: Path) -> None:
    told = []
    evolve(load_rule("sgd"), [_quadratic(8)], [_quadratic(9)], config=QUICK, out=tmp_path, on_record=told.append)
    found = read_evolution(tmp_path / "evolution.json")
    assert found == [
        {"validation": None, **{key: value for key, value in one.items() if key != "seconds"}} for one in told
    ]
    with pytest.raises(CheckpointError, match="No such file"):
        read_evolution(tmp_path / "other.json")


def test_the_mean_loss_of_several_episodes_is_scored(tmp_path: Path) -> None:
    """Not the mean of their scores: the logarithm is of the mean."""
    task, rule = _quadratic(12), load_rule("sgd")
    config = replace(QUICK, generations=1, tasks=1, lowest=-50.0, highest=50.0, worse=1.0, validate_every=1)
    evolve(rule, [task], [task], config=replace(config, episodes=3), out=tmp_path / "three")
    found = json.loads((tmp_path / "three" / "evolution.json").read_text())
    reference = Reference(**found["references"][0])
    optimizer = SymbolicOptimizer(rule)
    losses = []
    for episode in range(3):
        numbers = [config.seed, 0, 1, *([episode] if episode else [])]
        (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
        update = optimizer.bind_stacked({"coordinates": torch.zeros(1, 1, dtype=torch.float64)})
        losses.append(final_losses(optimizer, update, 1, task, task.horizon, int(seed) >> 2))
    expected = reference.score(torch.stack(losses).mean(0))
    assert found["history"][0]["mean_score"] == pytest.approx(float(expected))
    assert float(expected) != pytest.approx(float(reference.score(torch.stack(losses)).mean()), abs=1e-3)


def test_the_kept_rule_is_the_one_that_validates_best(tmp_path: Path) -> None:
    config = EvolveConfig(generations=6, population=6, tasks=1, sigma=1.5, validate_every=1)
    tuned = evolve(load_rule("sgd"), [_quadratic(10)], [_quadratic(40, 100.0)], config=config, out=tmp_path)
    history = json.loads((tmp_path / "evolution.json").read_text())["history"]
    scores = [entry["validation"] for entry in history]
    kept = tuned.provenance["evolution"]["kept"]
    assert kept == int(np.argmin(scores)) + 1
    assert load_rule(tmp_path / "rule.json") == tuned


def test_tasks_of_a_generation_are_spread_over_the_pool(tmp_path: Path) -> None:
    pool = [_quadratic(4) for _ in range(6)]
    evolve(load_rule("sgd"), pool, config=EvolveConfig(generations=3, population=4, tasks=3), out=tmp_path)
    chosen = [entry["tasks"] for entry in json.loads((tmp_path / "evolution.json").read_text())["history"]]
    assert all([index // 2 for index in one] == [0, 1, 2] for one in chosen)
    assert len({tuple(one) for one in chosen}) > 1


def test_what_cannot_be_evolved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at least one task"):
        evolve(load_rule("sgd"), [])
    with pytest.raises(OptionError, match="no constants"):
        evolve(load_rule("sgd"), [_quadratic(5)], trainable=[])
    with pytest.raises(UnknownNameError, match="beta"):
        evolve(load_rule("momentum"), [_quadratic(5)], trainable=["betta"])
    with pytest.raises(OptionError, match="lowest must be below highest"):
        EvolveConfig(lowest=1.0, highest=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(format="other/1"), "not a run of this version"),
        (lambda run: run["run"].update(trainable=["eps"]), "its trainable differs"),
        (lambda run: run["history"][0].update(scores=[0.0]), "damaged"),
        (lambda run: run["history"][0].update(mean=[0.5]), "cannot be replayed"),
        (lambda run: run.pop("references"), "damaged"),
        (lambda run: run.update(history=5), "damaged"),
    ],
)
def test_a_foreign_or_damaged_run_is_refused(tmp_path: Path, change, message: str) -> None:
    pool = [_quadratic(5)]
    evolve(load_rule("sgd"), pool, config=replace(QUICK, generations=1), out=tmp_path)
    path = tmp_path / "evolution.json"
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))
    with pytest.raises(CheckpointError, match=message):
        evolve(load_rule("sgd"), pool, config=QUICK, out=tmp_path, resume=True)
