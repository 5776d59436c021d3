"""The trainer: it learns, resumes bit for bit, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from closedform import tasks
from closedform.errors import CheckpointError, DivergenceError, OptionError, OutputError, UnknownNameError
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, get, load_learned_optimizer
from closedform.meta_training import ESTIMATORS, MetaTrainConfig, MetaTrainResult, TruncatedBPTT, meta_train
from closedform.rules import load_rule

SMALL = MetaTrainConfig(
    steps=14,
    lr=1e-3,
    warmup=3,
    horizon=20,
    random_scaling=0.5,
    batch=2,
    validate_every=5,
    validation_episodes=2,
    checkpoint_every=4,
)


def _quadratic() -> tasks.Task:
    return tasks.get("quadratic", dim=6, condition=10.0)


def _network(seed: int = 0) -> LearnedOptimizer:
    return get("rp-s", generator=torch.Generator().manual_seed(seed))


class Interrupted(Exception):
    pass


def _stop_after(step: int):
    def progress(record: dict) -> None:
        if record["step"] == step:
            raise Interrupted

    return progress


def _train(out: Path | None = None, config: MetaTrainConfig = SMALL, **options: object) -> MetaTrainResult:
    optimizer = options.pop("optimizer", None) or _network()
    members = options.pop("tasks", None) or [_quadratic(), tasks.get("rosenbrock")]
    return meta_train(optimizer, members, estimator=TruncatedBPTT(6), config=config, out=out, **options)


def _check_same(first: MetaTrainResult, second: MetaTrainResult) -> None:
    theirs = second.optimizer.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in first.optimizer.state_dict().items())
    assert first.history == second.history
    assert (first.best_step, first.best_validation) == (second.best_step, second.best_validation)


@pytest.mark.parametrize("stop", [1, 8, 13])
@pytest.mark.parametrize("make", [_network, lambda: SymbolicOptimizer(load_rule("adam"))])
def test_resumed_run_is_the_uninterrupted_run(make: object, stop: int, tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", optimizer=make())
    with pytest.raises(Interrupted):
        _train(tmp_path / "cut", optimizer=make(), on_record=_stop_after(stop))
    seen: list[int] = []
    resumed = _train(
        tmp_path / "cut", optimizer=make(), resume=True, on_record=lambda record: seen.append(record["step"])
    )
    assert seen[0] == stop - stop % SMALL.checkpoint_every + 1
    _check_same(whole, resumed)
    files = {name: (tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")}
    assert files["whole"] == files["cut"]
    assert [json.loads(line)["step"] for line in files["cut"].splitlines()] == list(range(15))


def test_killed_between_metrics_and_checkpoint(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        _train(tmp_path / "cut", on_record=_stop_after(7))
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "meta_lo')
    _check_same(whole, _train(tmp_path / "cut", resume=True))


def test_same_seed_same_run_and_other_seed_another() -> None:
    first, again = _train(), _train()
    _check_same(first, again)
    other = _train(config=dataclasses.replace(SMALL, seed=1))
    assert other.history != first.history


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = _train(tmp_path)
    _check_same(first, _train(tmp_path, resume=True))


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    _check_same(_train(), _train(tmp_path / "new", resume=True))


def test_without_resume_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    _train(tmp_path, config=dataclasses.replace(SMALL, seed=9))
    _check_same(_train(), _train(tmp_path))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 15


def test_time_limit_stops_early_and_a_longer_run_goes_on(tmp_path: Path) -> None:
    short = _train(tmp_path, config=dataclasses.replace(SMALL, time_limit=1e-9))
    assert short.step == 0
    _check_same(_train(), _train(tmp_path, resume=True))


def test_files(tmp_path: Path) -> None:
    result = _train(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.safetensors",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    loaded = load_learned_optimizer(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in result.optimizer.state_dict().items())
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["config"]["steps"] == 14
    assert described["estimator"] == TruncatedBPTT(6).describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": dataclasses.replace(SMALL, lr=0.5)}, "config, lr was 0.001, now 0.5"),
        ({"optimizer": get("rp-si")}, "learned_optimizer, name was"),
        ({"tasks": [tasks.get("rosenbrock")]}, "tasks was"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    _train(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        _train(tmp_path, resume=True, **change)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    _train(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    data = path.read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            _train(tmp_path, resume=True)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        _train(tmp_path / "file")


class Broken(tasks.Task):
    """Finite at first; NaN from the given number of batches on."""

    name, horizon, source = "broken", 20, "this test"

    def __init__(self, good: int) -> None:
        self.good = good
        self.drawn = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (3,)}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"w": torch.ones(3)}

    def batch(self, split: str, generator: torch.Generator) -> tuple[Tensor, ...]:
        self.drawn += 1
        return (torch.tensor(1.0 if self.drawn <= self.good or self.drawn > self.good + 5 else torch.nan),)

    def loss(self, params: dict[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        return batch[0] * params["w"].square().sum()


def test_a_diverged_episode_is_counted_and_replaced() -> None:
    config = MetaTrainConfig(steps=12, validate_every=0)
    result = _train(config=config, tasks=[Broken(good=30)])
    assert result.diverged >= 1
    assert result.history[-1]["diverged"] == result.diverged
    assert [record["step"] for record in result.history if record["meta_loss"] is None]
    assert all(torch.isfinite(value).all() for value in result.optimizer.state_dict().values())


class Hopeless(Broken):
    """NaN from the start, or from the first step on."""

    def batch(self, split: str, generator: torch.Generator) -> tuple[Tensor, ...]:
        self.drawn += 1
        return (torch.tensor(1.0 if self.drawn <= self.good else torch.nan),)


def test_a_task_that_is_nan_from_the_start_ends_at_once() -> None:
    task = Hopeless(0)
    with pytest.raises(DivergenceError, match="task 'broken': before any step its loss is nan"):
        _train(tasks=[task])
    assert task.drawn == 1


def test_a_task_without_finite_windows_ends_in_one_line() -> None:
    with pytest.raises(DivergenceError, match="no window on broken was finite in 50 steps"):
        _train(config=MetaTrainConfig(steps=1000, validate_every=0), tasks=[Hopeless(1)])


def test_an_unroll_longer_than_the_horizon_is_the_horizon() -> None:
    config = dataclasses.replace(SMALL, steps=4, horizon=8)
    with pytest.warns(UserWarning, match="unroll 30 is longer than the horizon of 'quadratic', 8 steps"):
        long = meta_train(_network(), [_quadratic()], estimator=TruncatedBPTT(30), config=config)
    exact = meta_train(_network(), [_quadratic()], estimator=TruncatedBPTT(8), config=config)
    _check_same(long, exact)
    assert long.history[-1]["episodes"] == 2 + 2 * 4


def test_a_disk_that_fills_during_a_checkpoint_keeps_the_earlier_one(tmp_path: Path) -> None:
    """Files of this process may not grow past some size: the metrics fit, the checkpoint does not."""
    with pytest.raises(Interrupted):
        _train(tmp_path, on_record=_stop_after(9))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint.safetensors: .*; choose another --out"):
            _train(tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    _check_same(_train(), _train(tmp_path, resume=True))


def test_options_are_checked() -> None:
    for options in ({"steps": 0}, {"lr": -1.0}, {"clip": float("nan")}, {"horizon": 0}, {"time_limit": 0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            MetaTrainConfig(**options)
    with pytest.raises(UnknownNameError, match="did you mean 'late'"):
        MetaTrainConfig(objective="lates")
    with pytest.raises(OptionError, match="unroll"):
        TruncatedBPTT(0)
    with pytest.raises(OptionError, match="at least one task"):
        meta_train(_network(), [])
    with pytest.raises(OptionError, match="nothing to train"):
        meta_train(SymbolicOptimizer(load_rule("adam"), []), [_quadratic()])


def test_learning_rate_rises_then_falls() -> None:
    config = MetaTrainConfig(steps=100, lr=2.0, warmup=10, final_lr=0.1)
    assert config.lr_at(0) == pytest.approx(0.2, rel=1e-3)
    assert config.lr_at(50) == pytest.approx(1.1)
    assert config.lr_at(100) == pytest.approx(0.2)
    constant = MetaTrainConfig(steps=100, lr=2.0, warmup=0, final_lr=1.0)
    assert {constant.lr_at(step) for step in range(101)} == {2.0}


def test_learns_the_quadratic() -> None:
    config = MetaTrainConfig(steps=150, horizon=40, lr=1e-2, warmup=20)
    optimizer = get("rp-s", generator=torch.Generator().manual_seed(0), scale=0.1)
    result = meta_train(optimizer, [_quadratic()], estimator=TruncatedBPTT(20), config=config)
    start = result.history[0]["validation"]
    assert result.best_validation < start / 20


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_learns(name: str) -> None:
    """Adam's learning rate of 0.001 hardly moves in 20 steps; all find a larger one."""
    config = MetaTrainConfig(
        steps=16, horizon=20, lr=0.4, warmup=0, final_lr=1.0, objective="log", validate_every=4, validation_episodes=2
    )
    result = meta_train(
        SymbolicOptimizer(load_rule("adam")), [_quadratic()], estimator=ESTIMATORS[name](unroll=10), config=config
    )
    assert result.best_validation < result.first_validation / 3
