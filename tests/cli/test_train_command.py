"""``closedform train`` and ``closedform tune``: every option reaches what it is for."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from closedform.cli import app
from closedform.cli._training import CONFIG_OPTIONS, ESTIMATOR_OPTIONS, own_device
from closedform.learned_optimizers import PRETRAINED, load_learned_optimizer
from closedform.meta_training import ESTIMATORS, MetaTrainConfig

PLAIN = {f"{kind}{optional}" for kind in ("int", "float", "str", "bool") for optional in ("", " | None")}
PLAIN |= {"tuple[int, ...]"}
RUNNER = CliRunner()
SHORT = ("--task", "quadratic", "--steps", "3", "--horizon", "8", "--validation-episodes", "1")


def invoke(*arguments: object) -> Any:
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


def config_of(command: str, subject: str, out: Path, *options: object) -> dict[str, Any]:
    done = invoke(command, subject, *SHORT, *options, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    json.loads(done.stdout)
    return json.loads((out / "config.json").read_text())


def error_of(*arguments: object) -> str:
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(("command", "subject"), [("train", "rp-s"), ("tune", "momentum")])
def test_options_reach_the_configuration(command: str, subject: str, tmp_path: Path) -> None:
    options = ("--lr", "0.02", "--final-lr", "0.5", "--warmup", "1", "--batch", "2", "--side-by-side", "2")
    more = ("--objective", "log", "--random-scaling", "0.5", "--clip", "2", "--validate-every", "2", "--unroll", "4")
    more += ("--normalise", "gradient-norm")
    text = json.dumps(config_of(command, subject, tmp_path, *options, *more))
    for entry in (
        *('"lr": 0.02', '"final_lr": 0.5', '"warmup": 1', '"batch": 2', '"side_by_side": 2', '"objective": "log"'),
        *('"random_scaling": 0.5', '"clip": 2.0', '"validate_every": 2', '"unroll": 4', '"horizon": 8'),
        '"normalise": "gradient-norm"',
    ):
        assert entry in text


def test_warnings_are_one_line(tmp_path: Path) -> None:
    done = invoke("train", "rp-s", *SHORT, "--unroll", "50", "--out", tmp_path)
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: unroll 50 is longer than the horizon of 'quadratic', 8 steps")
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_plain_option_of_meta_training_is_there() -> None:
    plain = {field.name for field in dataclasses.fields(MetaTrainConfig) if field.type in PLAIN}
    assert set(CONFIG_OPTIONS) == plain - {"validation_tasks"}  # of a distribution: commands train on named tasks
    arguments = {name for make in ESTIMATORS.values() for name in inspect.signature(make).parameters}
    assert set(ESTIMATOR_OPTIONS) == arguments


def test_estimators_take_their_own_options(tmp_path: Path) -> None:
    text = json.dumps(config_of("train", "rp-s", tmp_path, "--estimator", "pes", "--std", "0.05", "--pairs", "2"))
    assert '"name": "pes"' in text
    assert '"std": 0.05' in text
    text = json.dumps(config_of("tune", "momentum", tmp_path, "--trainable", "beta", "--coordinates", "3"))
    assert '"coordinates": 3' in text
    assert "has no option --std; its options: --unroll" in error_of("train", "--std", "0.1", *SHORT, "--out", tmp_path)
    assert "did you mean 'pes'" in error_of("train", "--estimator", "pess", *SHORT, "--out", tmp_path)


def test_training_starts_from_given_weights(tmp_path: Path) -> None:
    first = invoke("train", "rp-s", *SHORT, "--out", tmp_path / "a", "--json")
    model = json.loads(first.stdout)["model"]
    again = invoke("train", "--init", model, *SHORT, "--steps", "1", "--lr", "1e-30", "--out", tmp_path / "b", "--json")
    assert again.exit_code == 0, again.output
    before, after = (load_learned_optimizer(tmp_path / name / "model.safetensors") for name in "ab")
    assert before.name == after.name == "rp-s"
    for name, value in before.state_dict().items():
        assert value.equal(after.state_dict()[name])
    if not PRETRAINED:
        assert "no weights ship for" in error_of("train", "rp-s", "--pretrained", *SHORT, "--out", tmp_path / "c")
    assert "holds a 'rp-s', not a 'dm'" in error_of("train", "dm", "--init", model, *SHORT, "--out", tmp_path / "c")


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [own_device(name) for name in ("cuda", "cpu", "cuda:3")] == ["cuda:1", "cpu", "cuda:3"]


def test_imitation_and_curriculum(tmp_path: Path) -> None:
    options = ("--imitation", "adam", "--imitation-weight", "0.5", "--imitation-until", "2", "--coordinates", "3")
    found = config_of("train", "rp-s", tmp_path, *options, "--curriculum", "2,4", "--curriculum-patience", "3")
    expected = {"name": "imitation", "weight": 0.5, "until": 2, "coordinates": 3}
    assert expected.items() <= found["estimator"].items()
    assert found["estimator"]["base"]["coordinates"] == 3
    assert found["config"]["curriculum"] == [2, 4]
    assert found["config"]["curriculum_patience"] == 3
    for wrong in (("--curriculum", "2,x"), ("--imitation-until", "2"), ("--imitation", "adamm"), ("--curriculum", "9")):
        error_of("train", "rp-s", *SHORT, *wrong, "--out", tmp_path)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    config_of("train", "rp-s", tmp_path, "--tensorboard")
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_missing_tensorboard_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install" in error_of("train", "rp-s", *SHORT, "--tensorboard", "--out", tmp_path)


@pytest.mark.slow
def test_several_processes_print_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "closedform"]
    command += ["train", "rp-s", *SHORT, "--batch", "2", "--out", str(tmp_path), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 3
