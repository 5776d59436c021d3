"""``closedform reproduce``, generic over its table: here with a table of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from typer.testing import CliRunner

from closedform.cli import app
from closedform.reproduce import REPRODUCTIONS

RUNNER = CliRunner()


class Outcome:
    def __init__(self, seeds: int, quick: bool) -> None:
        self.numbers = {"seeds": seeds, "quick": quick}

    def table(self) -> Table:
        table = Table("paper", "ours")
        table.add_row("0.23", "0.21")
        return table

    def to_json(self) -> str:
        return json.dumps(self.numbers)


def small(seeds: int = 5, out: Path | None = None, progress: Callable[..., None] | None = None, *, quick: bool = False):
    progress(0, 1, "part [one]")
    return Outcome(seeds, quick)


def no_options(out: Path | None = None, progress: Callable[..., None] | None = None):
    return Outcome(0, False)


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPRODUCTIONS, "small", small)
    monkeypatch.setitem(REPRODUCTIONS, "no-options", no_options)


def reproduce(*arguments: object) -> Any:
    return RUNNER.invoke(app, ["reproduce", *map(str, arguments)])


def test_a_table_is_printed_or_given_as_json(tmp_path: Path) -> None:
    assert "0.23" in reproduce("small", "--out", tmp_path).stdout
    assert json.loads(reproduce("small", "--json").stdout) == {"seeds": 5, "quick": False}
    assert json.loads(reproduce("small", "--seeds", 2, "--quick", "--json").stdout) == {"seeds": 2, "quick": True}


def test_bad_input_is_one_line() -> None:
    for arguments, message in [
        (("smal",), "did you mean 'small'"),
        (("no-options", "--seeds", 3), "the table no-options has no option --seeds; its options: none"),
        (("small", "--data-dir", "x"), "has no option --data-dir; its options: --seeds, --quick"),
    ]:
        done = reproduce(*arguments)
        assert done.exit_code == 2
        assert message in done.stderr
