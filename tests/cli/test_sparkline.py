"""Curves as one line, and the bar that draws one while training goes on."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console
from rich.progress import Progress

from closedform.cli._progress import COLUMNS, add_bar
from closedform.cli._sparkline import BLOCKS, sparkline


def test_heights_go_from_the_lowest_block_to_the_highest() -> None:
    assert sparkline(list(range(8))) == BLOCKS
    assert sparkline([3, 2, 1, 0]) == BLOCKS[7] + BLOCKS[5] + BLOCKS[2] + BLOCKS[0]


@pytest.mark.parametrize(("values", "line"), [([], ""), ([1.0, 1.0], "▁▁"), ([0.0], "▁"), ([math.nan] * 3, "   ")])
def test_what_has_no_span(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_what_is_not_finite_leaves_a_gap() -> None:
    assert sparkline([0, math.inf, 7]) == "▁ █"


@pytest.mark.parametrize("count", [5, 24, 25, 1000])
def test_long_curves_are_averaged_to_the_width(count: int) -> None:
    line = sparkline([float(k) for k in range(count)], 24)
    assert len(line) == min(count, 24)
    assert list(line) == sorted(line, key=BLOCKS.index)


def test_averages_leave_out_what_is_not_finite() -> None:
    assert sparkline([0, math.nan, 7, 7], 2) == "▁█"


def test_a_bar_draws_what_is_recorded() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with Progress(*COLUMNS, console=console, auto_refresh=False) as progress:
        bar = add_bar(progress, "meta-training")
        for step in range(8):
            bar(step + 1, 8, f"loss {step}")
            bar.record({"step": step, "meta_loss": float(step)})
        bar.record({"score": None})
        progress.refresh()
    assert f"loss 7 {BLOCKS} " in console.file.getvalue()  # type: ignore[attr-defined]
