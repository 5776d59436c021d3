"""``closedform race``: what it writes, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from closedform.cli import app
from closedform.rules import load_rule

COMMAND = (
    "race adam --task quadratic --trainable lr --generations 1 --population 4 --rungs 1 --steps 20 --finals 1 --json"
).split()


def test_races_and_resumes(tmp_path: Path) -> None:
    command = [*COMMAND, "--out", str(tmp_path)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert load_rule(found["rule"]).lr == found["lr"]
    lines = (tmp_path / "candidates.jsonl").read_text()
    assert json.loads(CliRunner().invoke(app, [*command, "--resume"]).stdout) == found
    assert (tmp_path / "candidates.jsonl").read_text() == lines


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    cases = (
        (["--trainable", "bta1"], "beta1"),
        (["--population", "1"], "population"),
        (["--workers", "many"], "workers must be a number of processes"),
        (["--task", "quadratc"], "quadratic"),
    )
    for options, text in cases:
        result = CliRunner().invoke(app, [*COMMAND, "--out", str(tmp_path), *options])
        assert result.exit_code == 2
        assert text in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
