"""``closedform tasks``: a table for people that fits a terminal, and what to do about data that are not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from closedform import tasks
from closedform.cli import _tasks
from closedform.cli._app import app


def listing(monkeypatch: pytest.MonkeyPatch, *args: str) -> list[str]:
    monkeypatch.setattr(_tasks, "STDOUT", Console(width=80))
    result = CliRunner().invoke(app, ["tasks", *args])
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_one_line_a_task_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listing(monkeypatch)
    assert max(map(len, lines)) <= 80
    for name in tasks.TASKS:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert line.split()[-1] in ("yes", "no")
        assert f"{tasks.TASKS[name]().size:,}" in line.split()


def test_missing_data_are_explained_once_a_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = " ".join(listing(monkeypatch, "--data-dir", str(tmp_path)))
    for data in ("MNIST", "Fashion-MNIST", "CIFAR-10", "CIFAR-100"):
        assert text.count(f" {data} is not in") == 1


def test_json_has_the_sources_and_listing_reads_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in {type(task().images) for task in tasks.TASKS.values() if hasattr(task(), "images")}:
        monkeypatch.setattr(kind, "load", None)
    result = CliRunner().invoke(app, ["tasks", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(tasks.TASKS)
    assert all(row["source"] and row["available"] == (row["how_to_get_it"] is None) for row in rows)
