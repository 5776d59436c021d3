"""Races of whole training runs: what they find, on any workers, and what is lost when something dies."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from closedform import tasks
from closedform.errors import CheckpointError, DivergenceError, OptionError
from closedform.meta_training import Candidate, RaceConfig, race, read_race
from closedform.meta_training.racing import _race
from closedform.rules import Rule, load_rule
from closedform.tasks import Batch, Params, Task

QUICK = RaceConfig(generations=2, population=6, rungs=2, factor=3, steps=30, finals=2, sigma=1.0)
SGD = load_rule("sgd")


def quadratic() -> Task:
    return tasks.get("quadratic", dim=5, condition=10.0).to(dtype=torch.float64)


def _turned_into(kind: type[Task]) -> Task:
    """The quadratic as a task of a class that is derived from its own."""
    task = quadratic()
    task.__class__ = kind
    return task


def _final_loss(task: Task, lr: float, steps: int) -> float:
    """By gradient descent written out; the geometric mean over starts of its own."""
    logs = []
    for seed in range(20):
        params = task.init(torch.Generator().manual_seed(seed))
        for _ in range(steps):
            _, grads = task.loss_and_grad(params, ())
            params = {name: params[name] - lr * grads[name] for name in params}
        logs.append(float(task.loss(params, ()).log()))
    return math.exp(sum(logs) / len(logs))


def test_it_comes_near_the_best_learning_rate_of_a_grid() -> None:
    task = quadratic()
    config = replace(QUICK, generations=8, population=8, steps=20)
    tuned = race(SGD, task, config=config)
    grid = {lr: _final_loss(task, lr, 20) for lr in (0.01 * 1.1**power for power in range(60))}
    best = min(value for value in grid.values() if value == value)
    assert _final_loss(task, SGD.lr, 20) > 100 * best
    assert _final_loss(task, tuned.lr, 20) < 5 * best
    told = tuned.provenance["race"]
    assert told["from"] == {"lr": SGD.lr}
    assert told["final_losses"][told["kept"]] == min(told["final_losses"].values())


def test_the_ladder_is_successive_halving(tmp_path: Path) -> None:
    config = RaceConfig(generations=1, population=9, rungs=3, factor=3, steps=90, finals=1)
    assert config.ladder(config.steps or 0) == [(10, 9), (30, 3), (90, 1)]
    race(SGD, quadratic(), config=config, out=tmp_path)
    ended = read_race(tmp_path / "candidates.jsonl")
    rungs = [[one for one in ended if (one.generation, one.rung) == (0, rung)] for rung in range(3)]
    assert [len(rung) for rung in rungs] == [9, 3, 1]
    for shorter, longer in pairwise(rungs):
        went_on = {one.number for one in longer}
        cut = [_worth(one) for one in shorter if one.number not in went_on]
        assert max(_worth(one) for one in shorter if one.number in went_on) <= min(cut)


def _worth(candidate: Candidate) -> float:
    return float("inf") if candidate.loss is None else candidate.loss


def test_workers_do_not_change_what_is_found(tmp_path: Path) -> None:
    alone = race(SGD, quadratic(), config=QUICK, out=tmp_path / "1")
    assert race(SGD, quadratic(), config=replace(QUICK, workers=2), out=tmp_path / "2") == alone
    one, two = ({c.place: c.loss for c in read_race(tmp_path / name / "candidates.jsonl")} for name in ("1", "2"))
    assert one == two


@pytest.mark.parametrize("kept", [1, 4, 9, 17])
def test_a_race_that_was_killed_goes_on(tmp_path: Path, kept: int) -> None:
    whole = race(SGD, quadratic(), config=QUICK, out=tmp_path)
    path = tmp_path / "candidates.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:kept]) + lines[kept][:20])  # cut short in the middle of a line
    told: list[int] = []
    again = race(SGD, quadratic(), config=QUICK, out=tmp_path, resume=True, progress=lambda done, *_: told.append(done))
    assert again == whole
    assert told[0] == kept - 1
    assert told[-1] == len(lines) - 1 == len(read_race(path))


def test_a_race_that_ran_out_of_time_has_finals_of_its_own(tmp_path: Path) -> None:
    """Those of the race gone on with are of the candidates that it has then."""
    told: list[tuple[int, int]] = []
    race(SGD, quadratic(), config=replace(QUICK, time_limit=1e-9), out=tmp_path)
    again = race(
        SGD,
        quadratic(),
        config=QUICK,
        out=tmp_path,
        resume=True,
        progress=lambda done, total, _: told.append((done, total)),
    )
    assert again == race(SGD, quadratic(), config=QUICK)
    assert told[0] == (0, 22)
    assert told[-1] == (22, 22)


def test_the_rule_given_is_kept_if_nothing_is_better() -> None:
    """At the best rate of steepest descent along one axis, one step is enough: there is nothing to gain."""
    task = tasks.get("quadratic", dim=1, condition=1.0).to(dtype=torch.float64)
    curvature = float(task.matrix.T @ task.matrix)
    exact = Rule.parse("exact", "-g", lr=1 / curvature)
    tuned = race(exact, task, config=QUICK)
    assert tuned.lr == exact.lr
    assert tuned.provenance["race"]["kept"] == "the rule given"


@contextmanager
def dying(marker: Path) -> Iterator[Task]:
    """A task that takes the process with it, the first time that it is asked for a start."""

    class Dying(type(quadratic())):  # type: ignore[misc]  # inside, so that workers get it by value
        def init(self, generator: torch.Generator) -> Params:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                found: Params = super().init(generator)
                return found
            os._exit(9)

    yield _turned_into(Dying)


def test_a_worker_that_dies_costs_its_candidate_only(tmp_path: Path) -> None:
    with dying(tmp_path / "died") as task:
        race(SGD, task, config=replace(QUICK, workers=2), out=tmp_path / "run")
    ended = read_race(tmp_path / "run" / "candidates.jsonl")
    assert [one.state for one in ended].count("lost") == 1
    assert {one.state for one in ended} <= {"done", "diverged", "lost"}
    assert len(ended) == 2 * (6 + 2) + 3 * 2


def test_what_was_lost_last_runs_again(tmp_path: Path) -> None:
    with dying(tmp_path / "died") as task:
        race(SGD, task, config=replace(QUICK, workers=2), out=tmp_path)
        path = tmp_path / "candidates.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))  # the first rung alone
        again = race(SGD, task, config=QUICK, out=tmp_path, resume=True)
        (tmp_path / "died").touch()
        assert again == race(SGD, task, config=QUICK)


class _Failing:
    """Makes tasks whose loss does something else, by value."""

    def __init__(self, does: Callable[[], Any]) -> None:
        self.does = does

    def task(self) -> Task:
        does = self.does

        class Failing(type(quadratic())):  # type: ignore[misc]
            def loss_and_grad(self, params: Params, batch: Batch) -> Any:
                return does()

        return _turned_into(Failing)


def _raises() -> Any:
    raise StopIteration("the loader has ended")


def _nan() -> Any:
    return torch.tensor(float("nan")), {}


def _refuses() -> Any:
    raise OptionError("there is no such device here")


@pytest.mark.parametrize(
    ("does", "error", "message"),
    [
        (_raises, OptionError, "all 6 candidates of a rung failed: StopIteration: the loader has ended"),
        (_nan, DivergenceError, "every finalist diverged in 30 steps, the rule given too"),
        (_refuses, OptionError, "no candidate can be run: there is no such device"),
    ],
)
def test_bad_tasks_are_one_line(does: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        race(SGD, _Failing(does).task(), config=QUICK)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_race, "versions", lambda: {"closedform": "9.9"})
    with pytest.raises(OptionError, match=r"the worker on .* has closedform .*, not 9\.9: install the same"):
        race(SGD, quadratic(), config=QUICK)


def test_a_task_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closedform.meta_training._memory.available_memory", lambda: 200)
    task = quadratic()  # 5 numbers of 8 bytes, four times for adam
    race(SGD, task, config=replace(QUICK, generations=1))
    race(load_rule("adam"), task, config=replace(QUICK, generations=1))
    with pytest.raises(OptionError, match="does not fit: parameters, gradients and 2 states of 5 numbers each take"):
        race(load_rule("adam"), task, config=replace(QUICK, workers=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be a number of processes"),
        ({"workers": "rays://here"}, "not 'rays://here'"),
        ({"workers": "ray://"}, "not 'ray://'"),
        ({"population": 3}, "population"),
        ({"factor": 1}, "factor"),
        ({"steps": 0}, "steps"),
        ({"workers": "dask://127.0.0.1:1"}, "no Dask cluster at 127.0.0.1:1"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closedform.meta_training.racing._workers.CONNECT", 0.5)
    with pytest.raises(OptionError, match=message):
        race(SGD, quadratic(), config=QUICK, **options)


def test_other_runs_and_damaged_files_are_refused(tmp_path: Path) -> None:
    race(SGD, quadratic(), config=QUICK, out=tmp_path)
    with pytest.raises(CheckpointError, match="of another race: its config differs"):
        race(SGD, quadratic(), config=replace(QUICK, sigma=0.5), out=tmp_path, resume=True)
    path = tmp_path / "candidates.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"rung": 0', '"rung": -1', 1))
    with pytest.raises(CheckpointError, match=r"line 2 is damaged: .*rung"):
        read_race(path)
    path.write_text("{}\n")
    with pytest.raises(CheckpointError, match="not a race of this version"):
        race(SGD, quadratic(), config=QUICK, out=tmp_path, resume=True)
