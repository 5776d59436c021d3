"""The table of what was fuzzed, and what came of it: one row a kind, of its last run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterable
from pathlib import Path

import torch

from fuzzing.harness import MEGABYTES, SECONDS, Counts

COLUMNS = ("kind", "files", "seed", "refused", "accepted", "foreign errors", "messages of several lines")
COLUMNS += (f"over {SECONDS:g} s", f"over {MEGABYTES} MB", "accepted nonsense", "slowest, s", "largest, MB", "run")
HEAD = """# Damaged files

`scripts/fuzz KIND N SEED --report benchmarks/results/fuzz.md` damages good files of a kind, opens each as the package
does, and uses what was accepted. The five columns after "accepted" must be 0. Seconds are the processor's, beyond those
that a good file takes; megabytes are beyond what the process held before it opened the file.
"""


def write_row(path: Path, name: str, seed: int, counts: Counts) -> None:
    """Put a run's counts into the table, in place of those of the kind's earlier run."""
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {line.split("|")[1].strip(): line for line in old if line.startswith("| `")}
    rows[f"`{name}`"] = _line([f"`{name}`", *_cells(seed, counts)])
    table = [_line(COLUMNS), _line("---" for _ in COLUMNS), *(rows[kind] for kind in sorted(rows))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEAD, *table]) + "\n", encoding="utf-8")


def _cells(seed: int, counts: Counts) -> list[str]:
    whole = (counts.refused, counts.accepted, counts.foreign, counts.messages, counts.slow, counts.large)
    run = (
        f"{datetime.date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    numbers = [counts.files, seed, *whole, counts.nonsense]
    return [*map(str, numbers), f"{max(counts.slowest, 0):.2f}", f"{max(counts.largest, 0):.0f}", run]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
