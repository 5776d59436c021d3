"""What people tried first, and what they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from closedform.cli import app
from closedform.rules import load_rule, save_rule

QUICK = "--task quadratic --steps 10 --seeds 1 --tuning-seeds 1 --baselines sgd --json".split()


def names(arguments: list[str], out: Path) -> set[str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments, *QUICK, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return {entry["name"] for entry in json.loads(result.stdout)["entries"]}


def error_of(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def test_files_of_one_name_are_called_by_their_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save_rule(load_rule("sgd"), tmp_path / folder / "rule.json")
    both = [str(tmp_path / folder / "rule.json") for folder in ("a", "b")]
    assert names(both, tmp_path / "1") == {"a/rule", "b/rule", "sgd"}
    assert names(both[:1], tmp_path / "2") == {"rule", "sgd"}
    assert names([f"mine={both[0]}", both[1]], tmp_path / "3") == {"mine", "rule", "sgd"}


def test_classes_are_called_by_their_whole_names(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "torch.optim:SGD", *QUICK, "--out", str(tmp_path)])
    assert "torch.optim:SGD" in result.output


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    save_rule(load_rule("sgd"), tmp_path / "rule.json")
    twice = [tmp_path / "rule.json"] * 2
    assert "two optimizers are called" in error_of("evaluate", *twice, *QUICK, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        (("record", "adam"), "x.csv", "a recording is written as .safetensors"),
        (("suggest-lr", "adam"), "x.png", "the picture is written as .svg"),
        (("watch", "adam"), "x.pdf", "a page is written as .html"),
    ],
)
def test_files_are_what_their_names_say(command: tuple[str, ...], name: str, message: str, tmp_path: Path) -> None:
    assert message in error_of(*command, "--out", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_class_of_torch_named_with_a_dot() -> None:
    assert "an optimizer is named torch.optim:SGD" in error_of("record", "torch.optim.SGD")


def test_modules_of_the_current_folder_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "my_optimizer.py").write_text("import torch\n\n\nclass Mine(torch.optim.SGD):\n    pass\n")
    command = [Path(sys.executable).with_name("closedform"), "record", "my_optimizer:Mine", "--opt", "lr=0.1"]
    options = ["--task", "quadratic", "--steps", "20", "--out", "mine.safetensors"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.safetensors").exists()


def test_a_range_that_ends_too_early_says_so(tmp_path: Path) -> None:
    options = ["--task", "quadratic", "--steps", "30", "--starts", "1", "--out", str(tmp_path / "test.svg")]
    short = CliRunner().invoke(app, ["suggest-lr", "sgd", *options, "--high", "1e-2"])
    assert "still falls at the range's end" in short.stdout
    ample = CliRunner().invoke(app, ["suggest-lr", "sgd", *options, "--high", "1000"])
    assert "suggested" in ample.stdout
    assert "still falls" not in ample.stdout
