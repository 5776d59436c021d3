"""A curve as one line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int | None = None) -> str:
    """Values as blocks, the lowest finite one the lowest; what is not finite leaves a gap.

    Args:
        values: Heights, [N].
        width: Characters at most; more values are averaged in groups of neighbours, of finite ones alone.
    """
    shown = values if width is None or len(values) <= width else _averaged(values, width)
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return " " * len(shown)
    low, high = min(finite), max(finite)
    span = max(high - low, 0.01 * max(abs(low), abs(high))) or 1.0  # a flat curve is shown flat
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round((value - low) / span * top)] if math.isfinite(value) else " " for value in shown)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    edges = [round(k * len(values) / width) for k in range(width + 1)]
    groups = (values[start:stop] for start, stop in pairwise(edges))
    return [_mean([value for value in group if math.isfinite(value)]) for group in groups]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
