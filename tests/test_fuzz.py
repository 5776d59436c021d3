"""A short run of ``scripts/fuzz``: damaged files of every kind are refused in one line of ours, or are still good ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import KINDS, fuzz
from fuzzing.harness import Counts, Kind, Nonsense

FILES = {"folders": 12, "reports": 4, "evaluation": 60}
"""Of kinds of which a file takes long; of the others 200."""
LONG = ("folders", "reports")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in KINDS]
)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    counts = fuzz(KINDS[name](tmp_path), FILES.get(name, 200), seed=5)
    assert not counts.foreign + counts.messages + counts.large + counts.nonsense, counts.faults
    assert counts.refused > 0
    assert counts.refused + counts.accepted == counts.files


def _counted(check, tmp_path: Path) -> Counts:
    calls = iter(range(100))

    def sometimes(path: Path) -> None:
        if next(calls) > 1:  # the good file is opened twice
            check()

    return fuzz(
        Kind([(b"good", lambda rng, data: data)], sometimes, tmp_path / "file"), 1, seed=0, keep=tmp_path / "kept"
    )


def _fail(error: BaseException):
    def check() -> None:
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "field"), [(KeyError("x"), "foreign"), (Nonsense("x"), "nonsense"), (MemoryError(), "foreign")]
)
def test_faults_are_counted_and_kept(error: BaseException, field: str, tmp_path: Path) -> None:
    counts = _counted(_fail(error), tmp_path)
    assert getattr(counts, field) == counts.bad == 1
    assert [path.read_bytes() for path in (tmp_path / "kept").iterdir()] == [b"good"]


def test_memory_is_measured(tmp_path: Path) -> None:
    counts = _counted(lambda: len(bytearray(b"x") * (300 * 2**20)), tmp_path)
    assert counts.large == counts.bad == 1
