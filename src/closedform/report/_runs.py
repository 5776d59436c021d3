"""Several runs on one page: their learning curves over common axes, and where each stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedform._files import write_text
from closedform.evaluation import ABSENT, count, number
from closedform.report._compare_plots import Line, View, overlaid
from closedform.report._front import most_faithful
from closedform.report._page import Block, Figure, Row, Section, Table, TableColumn, Text, page_html
from closedform.report._plots import smooth
from closedform.report._report import ReportData
from closedform.report._rule import Records

_CURVES = (
    ("meta_training", "step", "meta_loss", "meta-loss, running mean", "meta-step"),
    ("meta_training", "step", "validation", "validation: final loss", "meta-step"),
    ("evolution", "generation", "score", "evolution: score", "generation"),
    ("evolution", "generation", "validation", "evolution: score on fresh episodes", "generation"),
)
"""Part of the report, its x and y, and what they are."""


def write_runs(path: str | Path, runs: Mapping[str, ReportData]) -> Path:
    """Write a page on several runs, atomically; it loads nothing from anywhere.

    Args:
        path: The HTML file.
        runs: Name -> what there is of a run, at least two.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(Path(path), runs_html(runs))
    return Path(path)


def runs_html(runs: Mapping[str, ReportData]) -> str:
    """The page's text."""
    views = [view for curve in _CURVES if (view := _view(runs, *curve)).lines]
    sections = [Section("standing", "Where they stand", _table(runs))]
    if views:
        told = "; ".join(f"{view.title} of {', '.join(line.label for line in view.lines)}" for view in views)
        sections.insert(0, Section("curves", "Learning curves", [Figure(overlaid(views, "curves", told), _CAPTION)]))
    return page_html(f"{len(runs)} runs", [Text("; ".join(runs))], sections)


_CAPTION = "The losses of different tasks, horizons or objectives are not comparable."


def _view(runs: Mapping[str, ReportData], part: str, x: str, y: str, title: str, x_label: str) -> View:
    lines = []
    for rank, (name, data) in enumerate(runs.items()):
        points = [(row[x], row[y]) for row in getattr(data, part) or () if row.get(y) is not None]
        if points:
            lines.append(Line(name, rank, *smooth([at for at, _ in points], [value for _, value in points])))
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    return View(title, x_label, lines, log_y=bool(values) and min(values) > 0 and max(values) > 2 * min(values))


def _table(runs: Mapping[str, ReportData]) -> list[Block]:
    found = {name: _standing(data) for name, data in runs.items()}
    heads = [head for head in next(iter(found.values())) if any(row[head] != ABSENT for row in found.values())]
    rows: list[Row] = [("", [name, *(row[head] for head in heads)]) for name, row in found.items()]
    return [Table([TableColumn("run", ""), *map(TableColumn, heads)], rows)]


def _standing(data: ReportData) -> dict[str, str]:
    """Heading -> what to say there of a run."""
    steps = max((int(row.get("step") or 0) for row in data.meta_training or ()), default=None)
    best = _best(data.meta_training or data.evolution or ())
    front = most_faithful(data.hall or ())
    return {
        "meta-steps": ABSENT if steps is None else count(steps),
        "best validation": ABSENT if best is None else number(best),
        "equations": ABSENT if data.hall is None else count(len(data.hall)),
        "best R²": ABSENT if front is None else f"{front.r2:.4f}",
        "its nodes": ABSENT if front is None else count(front.complexity),
        "rule": ABSENT if data.rule is None else data.rule.name,
    }


def _best(records: Records) -> Any:
    return min((row["validation"] for row in records if row.get("validation") is not None), default=None)
