"""Tasks made small, so that every member of the table can be tested with the same code in little time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from stand_in import StandIn

from closedform import tasks
from closedform.tasks import _data_files
from closedform.tasks._image_task import ImageTask

CHEAP = {"batch_size": 6, "width": 8, "window": 12}
"""Options that make a task cheap, where it has them. The code is that of the task as it is."""


def cheap_task(name: str) -> tasks.Task:
    """The task of that name with fewer and smaller parts, on stand-in images if it needs images."""
    options = getattr(tasks.TASKS[name](), "options", None)
    fields = {field.name for field in dataclasses.fields(options)} if options is not None else set()
    task = tasks.TASKS[name](**{option: value for option, value in CHEAP.items() if option in fields})
    if isinstance(task, ImageTask):
        task = task.with_images(StandIn(task.images))
    return task


def distinct_tasks() -> list[str]:
    """Names of members, one of those that are the same network, but for its images' size and classes."""
    first: dict[tuple[object, ...], str] = {}
    for name in tasks.TASKS:
        task = cheap_task(name)
        kind = (type(task), repr(getattr(task, "options", None)), tuple(task.shapes))
        first.setdefault(kind, name)
    return list(first.values())


def _here(name: str) -> tasks.Task:
    member = cheap_task(name)
    missing = member.available()
    if missing is not None:
        pytest.skip(missing)
    return member


@pytest.fixture(params=distinct_tasks(), scope="module")
def task(request: pytest.FixtureRequest) -> tasks.Task:
    """Each kind of member of the table, made cheap; those that lack their data are skipped with the reason."""
    return _here(request.param)


@pytest.fixture(params=sorted(tasks.TASKS))
def member(request: pytest.FixtureRequest) -> tasks.Task:
    """Every member of the table, made cheap."""
    return _here(request.param)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every place that is searched by itself lies in ``tmp_path``, and nothing is downloaded."""
    pooch = pytest.importorskip("pooch")

    def offline(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(_data_files, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.delenv(_data_files.DATA_DIR_VARIABLE, raising=False)
    return tmp_path
