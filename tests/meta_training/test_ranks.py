"""Two processes meta-train as one does with the same total batch, and take up each other's checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import finish
from ranks_checks import CONFIG, ESTIMATORS, members, train

from closedform.meta_training import meta_tune
from closedform.rules import load_rule

if not torch.distributed.is_available():
    pytest.skip("this build of torch has no torch.distributed", allow_module_level=True)

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent / "ranks_checks.py"


class Stop(Exception):
    pass


def _stop(record: dict) -> None:
    if record["step"] == 6:
        raise Stop


def _environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    group = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return os.environ | group | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes ran; in ``one`` they went on with a checkpoint of one."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.raises(Stop):
        train("bptt", folder / "one", on_record=_stop)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, folder], env=_environment(rank, port), stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    finish(processes, timeout=200)
    return folder


def _result(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"result-{rank}.json").read_text())


def _check_close(ours: dict, theirs: dict) -> None:
    assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-5, abs=1e-9)
    assert len(ours["history"]) == len(theirs["history"])
    for mine, other in zip(ours["history"], theirs["history"], strict=True):
        assert mine == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_same_trajectory_as_one_process(name: str, rank: int, folder: Path) -> None:
    _check_close(_result(folder, rank)[name], train(name))


@pytest.mark.parametrize("rank", [0, 1])
def test_two_go_on_with_the_checkpoint_of_one(rank: int, folder: Path) -> None:
    _check_close(_result(folder, rank)["resumed"], train("bptt"))


def test_one_goes_on_with_the_checkpoint_of_two(folder: Path) -> None:
    half = shutil.copytree(folder / "half", folder / "alone")
    assert len((half / "metrics.jsonl").read_text().splitlines()) == 5
    _check_close(train("bptt", half, resume=True), train("bptt"))


def test_files_are_written_once(folder: Path) -> None:
    assert {path.name for path in (folder / "two").iterdir()} == {
        "checkpoint.safetensors",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    lines = (folder / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(9))


def test_meta_tuning(folder: Path) -> None:
    tuned = meta_tune(load_rule("momentum"), members(), config=CONFIG)
    expected = [tuned.lr, *tuned.constants.values()]
    for rank in range(2):
        assert _result(folder, rank)["tuned"] == pytest.approx(expected, rel=1e-5)
    assert load_rule(folder / "tuned" / "rule.json").provenance["meta_tuning"]


def test_slots_that_cannot_be_split_are_refused(folder: Path) -> None:
    assert _result(folder, 1)["odd"].startswith("batch must be divisible by the 2 processes, not 3")
