"""A short run of ``scripts/fuzz``: damaged files of every kind are refused in one line of ours, or still good ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import KINDS, fuzz, write_row
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


def test_the_report_has_one_row_a_kind(tmp_path: Path) -> None:
    path = tmp_path / "results" / "fuzz.md"
    for name, counts in {
        "rules": Counts(files=3, refused=2, accepted=1),
        "csv": Counts(files=5, refused=4, foreign=1),
    }.items():
        write_row(path, name, 7, counts)
    write_row(path, "rules", 8, Counts(files=9, refused=9, slowest=0.25, largest=3.2))
    rows = [line.split(" | ") for line in path.read_text().splitlines() if line.startswith("| `")]
    assert [row[:10] for row in rows] == [
        ["| `csv`", "5", "7", "4", "0", "1", "0", "0", "0", "0"],
        ["| `rules`", "9", "8", "9", "0", "0", "0", "0", "0", "0"],
    ]
    assert rows[1][10:12] == ["0.25", "3"]
