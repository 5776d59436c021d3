"""The application itself: commands are loaded when called, and only the first of several processes prints."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from closedform.cli import app
from closedform.cli._app import COMMANDS

RUNNER = CliRunner()
PROBE = """
import sys
from closedform.cli import app
try:
    app({arguments!r})
except SystemExit:
    pass
heavy = {{"torch", "numpy", "scipy", "sympy", "sklearn", "pyoperon", "matplotlib"}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_the_version_and_the_overview_load_nothing_heavy(arguments: list[str]) -> None:
    probe = PROBE.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_overview_says_what_commands_say_of_themselves() -> None:
    overview = RUNNER.invoke(app, ["--help"], env={"COLUMNS": "250"}).stdout
    for name, (_, line) in COMMANDS.items():
        assert line in overview
        assert line.rstrip(".") in RUNNER.invoke(app, [name, "--help"], env={"COLUMNS": "250"}).stdout
    assert set(typer.main.get_group(app).commands) == set(COMMANDS)


def test_unknown_commands_are_refused_with_the_nearest() -> None:
    done = RUNNER.invoke(app, ["trian"])
    assert done.exit_code == 2
    assert "Did you mean 'train'" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"), [(("list", "--json"), 0, ""), (("check", "none"), 2, "process 1: error: ")]
)
def test_one_of_several_processes_prints(arguments: tuple[str, ...], code: int, said: str) -> None:
    command = [sys.executable, "-m", "closedform", "rules", *arguments]
    environment = {**os.environ, "RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
