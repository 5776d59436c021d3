"""``closedform identify``: the sentence, the table, JSON, and what to do about bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import closedform as cf
from closedform.cli._app import app


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = cf.record("momentum", "mlp-digits", steps=40, episodes=2, coordinates=16)
    return str(made.save(tmp_path_factory.mktemp("identify") / "momentum.safetensors"))


def test_sentence_and_table(recording: str) -> None:
    result = CliRunner().invoke(app, ["identify", recording])
    assert result.exit_code == 0, result.output
    assert " ".join(result.stdout.split()).startswith("exact: momentum with lr 0.01, beta 0.9 (a memory of 10 steps)")
    assert "nearest rules, refitted" in result.stdout
    assert "muon" in result.stdout.split("not tried")[1]


def test_json_has_the_same(recording: str) -> None:
    result = CliRunner().invoke(app, ["identify", recording, "--rule", "momentum", "--rule", "sgd", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["verdict"] == "exact"
    assert [match["name"] for match in found["matches"]] == ["momentum", "sgd"]
    assert found["matches"][0]["rule"]["constants"]["beta"] == 0.9


@pytest.mark.parametrize(
    ("rule", "told"), [("momentun", "momentum"), ("muon", "single coordinates")], ids=["unknown", "whole tensors"]
)
def test_a_rule_that_cannot_be_tried(recording: str, rule: str, told: str) -> None:
    result = CliRunner().invoke(app, ["identify", recording, "--rule", rule])
    assert result.exit_code != 0
    assert told in str(result.exception) + result.output


def test_no_such_recording(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["identify", str(tmp_path / "none.safetensors")])
    assert result.exit_code != 0
    assert "none.safetensors" in str(result.exception) + result.output
