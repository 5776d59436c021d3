"""Restarts over seeds: one hall, the same whatever runs them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import pytest
import torch

from closedform.distillation import HallOfFame, distill
from closedform.errors import OptionError
from closedform.trajectories import Trajectories

MakeRecording = Callable[..., Trajectories]
QUICK = {"generations": 5, "population": 100, "rows": 200, "decays": (), "max_complexity": 12, "time_limit": 500.0}


@pytest.fixture
def recording(make_recording: MakeRecording) -> Trajectories:
    return make_recording(lambda g: torch.tanh(g(0)) * g(1).abs() + 0.1 * g(2), window=2, steps=40)


def in_threads(recording: Trajectories, **options: object) -> HallOfFame:
    with joblib.parallel_config(backend="threading", n_jobs=1):
        return distill(recording, **{**QUICK, **options})


def test_restarts_merge_the_halls_of_their_seeds(recording: Trajectories) -> None:
    seen: list[Mapping[str, Any]] = []
    hall = in_threads(recording, seed=3, restarts=2, on_record=seen.append)
    assert [record["stage"] for record in seen] == ["restart 1 of 2", "restart 2 of 2"]
    assert hall.provenance["seeds"] == [3, 4]
    singles = [distill(recording, seed=seed, split_seed=3, **QUICK) for seed in (3, 4)]
    assert {single.provenance["held_out"] for single in singles} == {hall.provenance["held_out"]}
    assert hall.best.error == min(single.best.error for single in singles)
    found = {entry.equation for single in singles for entry in single.entries}
    assert {entry.equation for entry in hall.entries} <= found
    assert HallOfFame.from_json(hall.to_json()) == hall


@pytest.mark.slow
def test_processes_give_the_same_hall(recording: Trajectories) -> None:
    assert distill(recording, restarts=2, **QUICK).entries == in_threads(recording, restarts=2).entries


def test_an_interrupt_ends_all_runs_with_their_best(recording: Trajectories) -> None:
    def interrupt(record: Mapping[str, Any]) -> None:
        if record["stage"] == "restart 1 of 12":  # so many that some are left, however late this thread wakes
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # ignored in a shell's background, not Python's own handler everywhere
    hall = in_threads(recording, restarts=12, on_record=interrupt)
    assert hall.entries
    assert "interrupted: the best so far" in hall.provenance["notes"]
    assert hall.interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_no_restarts_make_no_sense(recording: Trajectories) -> None:
    with pytest.raises(OptionError, match="restarts"):
        distill(recording, restarts=0)
