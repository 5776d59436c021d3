"""``closedform distill``: recordings and tables, operators, restarts, the choice by training, interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from typer.testing import CliRunner

from closedform.cli import app
from closedform.cli._progress import Bar
from closedform.distillation import EquationHall, HallOfFame
from closedform.rules import load_rule
from closedform.trajectories import record, save_trajectories

RUNNER = CliRunner()
QUICK = ("--time-limit", "0", "--backend", "sparse")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = record(load_rule("momentum"), "quadratic", steps=30, episodes=4, samples=400, features=("g", "m"))
    return save_trajectories(found, tmp_path_factory.mktemp("recording") / "trajectories.safetensors")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(60, 2))
    lines = [f"{a},{b},{3 * a - b}" for a, b in values]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["a,b,y", *lines]))
    return path


def distill(*arguments: object) -> Any:
    return RUNNER.invoke(app, ["distill", *map(str, arguments)], env={"COLUMNS": "200"})


def result_of(*arguments: object) -> dict[str, Any]:
    done = distill(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def error_of(*arguments: object) -> str:
    done = distill(*arguments)
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def test_a_table_gives_equations(table: Path, tmp_path: Path) -> None:
    found = result_of(table, "--target", "y", *QUICK, "--out", tmp_path / "out")
    assert found["equation"] == "3*a - b"
    assert EquationHall.load(found["equations"]).best.r2 > 0.999
    shown = distill(table, *QUICK, "--features", "a", "--out", tmp_path / "out").stdout
    assert "equations: " in shown


def test_numpy_arrays_need_names(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    np.save(tmp_path / "data.npy", np.column_stack([values, 2 * values[:, 0]]))
    found = result_of(tmp_path / "data.npy", "--columns", "u,v,y", *QUICK, "--out", tmp_path / "out")
    assert found["equation"] == "2*u"
    assert "without names" in error_of(tmp_path / "data.npy", "--out", tmp_path / "out")


def test_a_recording_gives_a_rule_chosen_by_training(recording: Path, tmp_path: Path) -> None:
    choose = ("--unseen", "quadratic-10", "--length", "40")
    found = result_of(recording, *QUICK, *choose, "--out", tmp_path)
    rule = load_rule(found["rule"])
    assert "over quadratic, quadratic-10 (unseen)" in found["reason"]
    assert rule.provenance["chosen"] == json.loads((tmp_path / "selection.json").read_text())
    assert HallOfFame.load(tmp_path / "hall_of_fame.json").entries


def test_operators_and_restarts(recording: Path, tmp_path: Path) -> None:
    options = ("--generations", "5", "--operators", "add,mul", "--restarts", "2", "--max-complexity", "9")
    with joblib.parallel_config(backend="threading", n_jobs=1):
        found = result_of(recording, *options, "--time-limit", "0", "--out", tmp_path)
    hall = HallOfFame.load(tmp_path / "hall_of_fame.json")
    assert hall.provenance["seeds"] == [0, 1]
    assert hall.provenance["config"]["operators"] == ["add", "mul"]
    assert found["complexity"] <= 9


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=60)
    np.save(tmp_path / "data.npy", np.column_stack([values, np.full(60, np.nan), values]))
    done = distill(tmp_path / "data.npy", "--columns", "a,b,y", *QUICK, "--out", tmp_path / "out")
    assert "note: column b left out: never finite" in done.stderr


def test_an_interrupt_writes_the_best_so_far(
    recording: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "__call__", interrupt)
    done = distill(recording, "--task", "quadratic", "--out", tmp_path / "r")
    assert done.exit_code == 130
    assert "interrupted: the best so far" in done.stderr
    assert load_rule(tmp_path / "r" / "rule.json")
    assert distill(table, "--out", tmp_path / "t").exit_code == 130
    assert EquationHall.load(tmp_path / "t" / "equations.json").entries


def test_bad_input_is_one_line(recording: Path, table: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "did you mean 'tanh'" in error_of(recording, "--operators", "add,tanhh", *out)
    assert "known: eggp, operon, pysr, sparse" in error_of(recording, "--backend", "gplearn", *out)
    assert "restarts" in error_of(recording, "--restarts", "0", *out)
    assert "leave out --task" in error_of(table, "--task", "quadratic", *out)
    assert "for tables" in error_of(recording, "--target", "y", *out)
    assert "did you mean 'quadratic'" in error_of(recording, "--unseen", "quadratics", *out)
    assert "unknown column 'z'" in error_of(table, "--target", "z", *out)
    table.write_text("a,y\n1,2\nx,3\n")
    assert "line 3, column 'a': 'x' is not a number" in error_of(table, *out)


def test_a_matrix_of_windows_gives_a_rule(tmp_path: Path) -> None:
    series = np.random.default_rng(0).normal(size=(400, 20))
    y = -sum(0.5**lag * series[:, lag] for lag in range(20))
    means = np.random.default_rng(1).normal(size=(400, 6))
    np.save(tmp_path / "data.npy", np.column_stack([series, np.arange(400) % 4, means, 100 + np.arange(400), y]))
    names = ["g", *(f"g_{lag}" for lag in range(1, 20)), "layer", *(f"mean_{k}" for k in "abcdef"), "t", "y"]
    found = result_of(tmp_path / "data.npy", "--columns", ",".join(names), *QUICK, "--out", tmp_path / "out")
    assert found["equation"] == "-2*m"
    assert load_rule(found["rule"]).constants["d_m"] == pytest.approx(0.5, abs=1e-6)
    plain = result_of(
        tmp_path / "data.npy", "--columns", ",".join(names), *QUICK, "--no-lags", "--out", tmp_path / "no"
    )
    assert plain["rule"] is None
