from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from closedform import tasks
from closedform.distillation import DistillConfig
from closedform.errors import OptionError
from closedform.evaluation import Summary
from closedform.learned_optimizers import get
from closedform.reproduce import REPRODUCTIONS, LossRow, R2Row
from closedform.reproduce._faithful import (
    FRESH,
    Fidelity,
    Study,
    ceiling,
    columns_and_averages,
    recorded,
    rule_r2,
    without_lags,
)
from closedform.reproduce._faithful import r2 as share_explained
from closedform.reproduce._r2 import _medians, _ratio, r2
from closedform.rules import Rule, load_rule
from closedform.trajectories import RecordConfig, record

ADAM = load_rule("adam")


@pytest.mark.usefixtures("one_network")
def test_the_tables_are_made_and_written(tmp_path: Path) -> None:
    assert REPRODUCTIONS["r2"] is r2
    parts: list[tuple[int, int, str]] = []
    result = r2(out=tmp_path, progress=lambda *part: parts.append(part), quick=True)
    assert parts == [(0, 1, "rp-s, seed 0")]
    assert [row.median.space for row in result.rows] == ["ceiling", "states", "window"]
    assert {row.network for row in result.rows} == {"rp-s"}
    assert [row.network for row in result.losses] + list(result.useless) == ["rp-s"]
    document = json.loads((tmp_path / "reproduce_r2.json").read_text())
    assert [row["median"]["space"] for row in document["rows"]] == ["ceiling", "states", "window"]
    assert f"`{result.rows[1].median.equation}`" in (tmp_path / "reproduce_r2.md").read_text()
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(result.table())
    assert "ceiling" in console.export_text()


def test_a_rule_explains_its_own_recording_and_no_other() -> None:
    fresh = record(ADAM, "mlp-digits", features=("g", "steps"), steps=40, episodes=1, samples=400, seed=FRESH)
    assert rule_r2(ADAM, fresh) > 1 - 1e-6
    assert rule_r2(load_rule("lion"), fresh) < 0.9


def test_a_rule_of_the_horizon_explains_its_own_recording() -> None:
    rule = Rule.parse("annealed", "-(1 - progress)*m", state={"m": "b*m + g"}, constants={"b": 0.9}, lr=0.01)
    fresh = record(rule, "mlp-digits", features=("g", "progress"), steps=40, episodes=1, samples=400, seed=FRESH)
    assert rule_r2(rule, fresh) > 1 - 1e-6


@pytest.mark.parametrize(("clock", "told"), [("own", "steps"), ("progress", "progress")])
def test_networks_and_rules_are_told_the_time_once(clock: str, told: str) -> None:
    task = tasks.get("mlp-digits")
    study = Study(task, task, RecordConfig(steps=4, episodes=1, coordinates=4, samples=16), 1, 0, {})
    recording = recorded(get("rp-s", clock=clock), task, study, seed=0)
    assert [column.name for column in recording.columns] == ["m_tilde", "g_tilde", told]
    assert columns_and_averages(recording).shape[1] == 3 + 2 * len(DistillConfig().decays)


def test_the_share_explained() -> None:
    truth = torch.tensor([1.0, 2.0, 3.0])
    assert share_explained(truth.double(), truth) == 1
    assert share_explained(torch.full((3,), 2.0).double(), truth) == 0
    assert share_explained(torch.tensor([1.0, math.nan, 3.0]).double(), truth) == -math.inf


def test_the_ceiling_sees_averages() -> None:
    """Momentum's update is an average of the gradient, which no single column holds."""
    momentum = load_rule("momentum")
    recording, fresh = (
        record(momentum, "mlp-digits", features=("g", "steps"), steps=80, episodes=3, samples=2000, window=1, seed=seed)
        for seed in (0, 1)
    )
    assert ceiling(recording, [fresh, fresh], trees=60, seed=0).p1 > 0.8
    assert without_lags(recording).column_names == ("g", "steps")


def test_medians_and_what_is_asked() -> None:
    found = [
        Fidelity("states", p1, 0.9, 1.0, nodes, 6, f"e{nodes}") for p1, nodes in ((0.96, 39), (0.9, 40), (0.97, 41))
    ]
    (row,) = _medians("dm", found)
    assert (row.median.p1, row.median.complexity, row.median.equation) == (0.96, 40, "e39")
    assert row.reached is True
    assert R2Row("dm", Fidelity("states", 0.96, 0.9, 1.0, 40, 7)).reached is False
    assert R2Row("dm", Fidelity("window", 0.96, 0.9, 1.0, 40, 6)).reached is None
    assert row.cells[8:] == ["", "0.95", "yes"]


def test_losses_are_compared_seed_by_seed() -> None:
    numerical, distilled = Summary((0.1, 0.3), 0.2, 0.1, 0.3), Summary((0.11, 0.31), 0.21, 0.11, 0.31)
    ratio = _ratio(numerical, distilled)
    assert ratio.mean == pytest.approx(1.05)
    assert LossRow("rp", numerical, distilled, ratio, 0.98, 20, 5, "g").within
    diverged = Summary((0.11, None), 0.11, None, None)
    assert not LossRow("rp", numerical, diverged, _ratio(numerical, diverged), 0.98, 20, 5, "g").within


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(OptionError, match="seeds"):
        r2(0)
