"""Meta-training on a distribution of tasks: episodes draw their own, know their length, and resume bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import closedform as cf
from closedform.errors import CheckpointError
from closedform.learned_optimizers import get
from closedform.meta_training import OBJECTIVES, PES, AntitheticES, MetaTrainConfig, meta_train
from closedform.meta_training._episodes import training_episode
from closedform.meta_training._task_source import DrawnTasks

TASKS = cf.TaskDistribution(
    families=("quadratic", "factorisation", "regression"), horizon=(6, 12), width=(8, 10), data=(), batch_size=(16, 20)
)
CONFIG = MetaTrainConfig(steps=6, batch=2, warmup=0, validation_tasks=3, validation_episodes=1, validate_every=3)


def network() -> cf.LearnedOptimizer:
    return get("celo", generator=torch.Generator().manual_seed(0))


def test_episodes_draw_tasks_of_their_own_and_know_their_length() -> None:
    source = DrawnTasks(TASKS, 2, seed=0)
    episodes = [training_episode(network(), source, CONFIG, slot, number) for slot in range(3) for number in (1, 2, 3)]
    assert len({episode.seed for episode in episodes}) == len(episodes)
    for episode in episodes:
        again = source.again(episode.task, episode.seed)
        assert float(episode.carry.state["T"]) == episode.carry.total == again.horizon >= episode.horizon
        assert again.shapes == episode.problem.task.shapes
    assert all(episode.horizon == episode.carry.total for episode in episodes if episode.number > 1)


@pytest.mark.parametrize("estimator", [PES(unroll=5, pairs=2), AntitheticES(unroll=4, pairs=2)])
def test_resumes_bit_for_bit(tmp_path: Path, estimator: PES | AntitheticES) -> None:
    whole = meta_train(network(), TASKS, estimator=estimator, config=CONFIG, out=tmp_path / "whole")
    half = replace(CONFIG, checkpoint_every=1)
    stopped = _stop_after(3, estimator, half, tmp_path / "cut")
    assert stopped == 3
    resumed = meta_train(network(), TASKS, estimator=estimator, config=half, out=tmp_path / "cut", resume=True)
    for name, value in whole.optimizer.state_dict().items():
        assert torch.equal(resumed.optimizer.state_dict()[name], value)
    assert [r.get("meta_loss") for r in resumed.history] == [r.get("meta_loss") for r in whole.history]


def _stop_after(steps: int, estimator: PES | AntitheticES, config: MetaTrainConfig, out: Path) -> int:
    """Kill a run from within, after so many meta-steps."""

    def stop(record: object) -> None:
        if record["step"] == steps:  # type: ignore[index]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meta_train(network(), TASKS, estimator=estimator, config=config, out=out, resume=True, on_record=stop)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return max(json.loads(line)["step"] for line in lines)


def test_another_distribution_is_another_run(tmp_path: Path) -> None:
    estimator = AntitheticES(unroll=4, pairs=1)
    meta_train(network(), TASKS, estimator=estimator, config=CONFIG, out=tmp_path)
    with pytest.raises(CheckpointError, match=r"distribution"):
        meta_train(network(), replace(TASKS, gain=3.0), estimator=estimator, config=CONFIG, out=tmp_path, resume=True)


def test_evolution_lengthens_a_schedule_that_is_too_short() -> None:
    """Steps a hundred times too small: evolution on the schedule alone, by where episodes end, makes them larger."""
    optimizer = network()
    with torch.no_grad():
        optimizer.schedule[0] -= 0.46  # the logarithm of the step, in tenths
    for name, parameter in optimizer.named_parameters():
        parameter.requires_grad_(name == "schedule")
    config = replace(CONFIG, steps=25, lr=0.05, objective="clipped-late", validate_every=5)
    result = meta_train(optimizer, TASKS, estimator=AntitheticES(12, std=0.05, pairs=4), config=config)
    assert result.best_validation < 0.9 * result.first_validation  # type: ignore[operator]
    assert float(optimizer.schedule.detach()[0]) > -0.4


def test_clipped_objectives_bear_explosions() -> None:
    losses = torch.tensor([[0.5, 0.5, 2.0], [float("inf"), 0.25, 4.0], [float("nan"), 1e-3, 4.0]])
    initial = torch.ones(3)
    found = OBJECTIVES["clipped"](losses, initial)
    cut = torch.log(torch.tensor([[0.5, 0.5, 2.0], [2.0, 0.25, 2.0], [2.0, 1e-3, 2.0]])).mean(0)
    torch.testing.assert_close(found, cut)
    torch.testing.assert_close(OBJECTIVES["clipped-late"](losses, initial)[1], torch.tensor(1e-3).log())
