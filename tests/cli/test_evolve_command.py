"""``closedform evolve``: what it writes, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from closedform.cli import app
from closedform.rules import load_rule

QUICK = (
    "--generations 2 --population 4 --tasks 2 --pool 3 --horizon 20 40 --budget 30"
    " --no-validation --trainable lr --json"
).split()


def test_evolves_a_rule_and_resumes(tmp_path: Path) -> None:
    command = ["evolve", "adam", "--out", str(tmp_path), *QUICK]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert load_rule(found["rule"]).lr == found["lr"] != load_rule("adam").lr
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert json.loads(again.stdout) == found


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    cases = (
        (["--trainable", "bta1"], "beta1"),
        (["--population", "1"], "population"),
        (["--pool", "0"], "pool must be"),
        (["--horizon", "50", "100000"], "beyond the budget"),
    )
    for options, text in cases:
        result = CliRunner().invoke(app, ["evolve", "adam", "--out", str(tmp_path), *QUICK, *options])
        assert result.exit_code == 2
        assert text in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
