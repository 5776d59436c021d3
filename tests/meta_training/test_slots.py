"""Slots: several optimizees each, spread over the horizon, numbered on their own, resumed bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from closedform import tasks
from closedform.learned_optimizers import LearnedOptimizer, get
from closedform.meta_training import (
    PES,
    AntitheticES,
    Estimator,
    ForwardAccumulation,
    MetaTrainConfig,
    MetaTrainResult,
    TruncatedBPTT,
    meta_train,
)
from closedform.meta_training._episodes import training_episode, validation_groups
from closedform.meta_training._task_source import TaskList
from closedform.meta_training._trainer import Trainer

CONFIG = MetaTrainConfig(
    steps=9, lr=1e-3, warmup=3, horizon=20, random_scaling=0.5, batch=2, side_by_side=3, validate_every=4
)


class Interrupted(Exception):
    pass


def _network() -> LearnedOptimizer:
    return get("rp-s", generator=torch.Generator().manual_seed(0))


def _tasks() -> list[tasks.Task]:
    return [tasks.get("quadratic", dim=6, condition=10.0), tasks.get("rosenbrock")]


def _train(
    estimator: Estimator, config: MetaTrainConfig = CONFIG, stop: int | None = None, **options: object
) -> MetaTrainResult:
    def progress(record: dict) -> None:
        if record["step"] == stop:
            raise Interrupted

    return meta_train(_network(), _tasks(), estimator=estimator, config=config, on_record=progress, **options)


@pytest.mark.parametrize(
    "estimator",
    [
        TruncatedBPTT(6),
        TruncatedBPTT(6, coordinates=2),
        AntitheticES(6, pairs=2),
        PES(6, pairs=2),
        ForwardAccumulation(6, coordinates=2),
    ],
    ids=lambda estimator: estimator.name,
)
def test_resumed_run_is_the_uninterrupted_run(estimator: Estimator, tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_every=3)
    whole = _train(estimator, config)
    with pytest.raises(Interrupted):
        _train(estimator, config, stop=5, out=tmp_path)
    resumed = _train(estimator, config, out=tmp_path, resume=True)
    theirs = resumed.optimizer.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.optimizer.state_dict().items())
    assert whole.history == resumed.history


def test_a_slot_runs_its_optimizees_in_step_on_one_task() -> None:
    for slot in range(4):
        episode = training_episode(_network(), TaskList(_tasks()), CONFIG, slot, 2)
        assert episode.horizon == 20
        carry, size = episode.carry, _tasks()[episode.task].size
        assert carry.w.shape == carry.gradient.shape == (3, size)
        assert carry.loss.shape == (3,)
        assert len({tuple(row.tolist()) for row in carry.w}) == 3
        assert len({tuple(row.tolist()) for row in episode.problem.scale}) == 3


def test_episodes_depend_on_slot_and_number_alone() -> None:
    for slot, number in ((0, 1), (1, 1), (1, 2), (3, 2)):
        first, again = (training_episode(_network(), TaskList(_tasks()), CONFIG, slot, number) for _ in range(2))
        assert torch.equal(first.carry.w, again.carry.w)
        assert (first.slot, first.number) == (slot, number)
    starts = {
        tuple(training_episode(_network(), TaskList(_tasks()[:1]), CONFIG, slot, number).carry.w.flatten().tolist())
        for slot in range(3)
        for number in (1, 2, 3)
    }
    assert len(starts) == 9


def test_slots_are_spread_over_the_horizon() -> None:
    """All but the first begin with a shorter episode, of any length; later ones are whole."""
    config = replace(CONFIG, batch=60, side_by_side=1)
    first = [training_episode(_network(), TaskList(_tasks()), config, slot, 1).horizon for slot in range(60)]
    assert first[0] == 20
    assert min(first) <= 3
    assert max(first) >= 18
    assert len(set(first)) > 12
    trainer = Trainer(_network(), _tasks(), TruncatedBPTT(5), replace(config, batch=12))
    for _ in range(5):
        trainer.advance()
    assert {episode.horizon for episode in trainer.slots} == {20}
    assert len({episode.carry.step for episode in trainer.slots}) > 2


def test_validation_runs_every_episode_once_side_by_side_or_not() -> None:
    config = replace(CONFIG, validation_episodes=5, side_by_side=2)
    assert [(index, list(group)) for index, group in validation_groups(_tasks(), config)] == [
        (index, group) for index in (0, 1) for group in ([0, 1], [2, 3], [4])
    ]
    together, alone = (
        Trainer(_network(), _tasks(), TruncatedBPTT(6), replace(config, side_by_side=width)).validate()
        for width in (2, 1)
    )
    assert together == pytest.approx(alone, rel=1e-5)


class Fragile(tasks.Task):
    """Now and then a batch whose loss is NaN: about one in ten."""

    name, horizon, source = "fragile", 20, "this test"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (3,)}

    def init(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"w": torch.ones(3)}

    def batch(self, split: str, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        number = torch.rand((), generator=generator)
        return (torch.where(number < 0.1, torch.nan, number),)

    def loss(self, params: dict[str, torch.Tensor], batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return batch[0] * params["w"].square().sum()


def test_an_episode_that_diverges_in_one_optimizee_is_replaced_for_all() -> None:
    config = MetaTrainConfig(steps=30, batch=1, side_by_side=3, validate_every=0)
    result = meta_train(_network(), [Fragile()], estimator=TruncatedBPTT(2), config=config)
    last = result.history[-1]
    assert 5 < result.diverged == last["diverged"]
    assert last["episodes"] > result.diverged
    lost = [record for record in result.history if record["meta_loss"] is None]
    assert len(lost) == result.diverged
