"""Plots of a comparison: optimizers over common axes, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from closedform.report._svg import BASELINE, DASHES, GRID, INK, MUTED, OWN, WIDTH, literal, new_figure, styled, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from closedform.analysis import Map

_COLOURS = OWN + BASELINE
_LINES = ("solid", *DASHES)
_ROOM = 0.045
"""Height of a label on the map, as a share of the axes."""


@dataclass(frozen=True)
class Line:
    """One optimizer's curve; ``rank`` is its place among all, which decides how it is drawn."""

    label: str
    rank: int
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class View:
    """One plot.

    Attributes:
        title, x_label: Texts.
        lines: Curves over a common axis.
        log_x, log_y: Whether the axes are logarithmic.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


@styled
def overlaid(views: Sequence[View], name: str, description: str) -> str:
    """Views beside each other, two a row, with one legend."""
    columns = min(len(views), 2)
    rows = math.ceil(len(views) / columns)
    labels = list(dict.fromkeys(line.label for view in views for line in view.lines))
    legend_rows = math.ceil(len(labels) / 4)
    figure, all_axes = new_figure(WIDTH, 0.4 + 3.0 * rows + 0.25 * legend_rows, rows, columns)
    for axes in all_axes[len(views) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes, view in zip(all_axes, views, strict=False):
        _draw(axes, view, handles)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, handlelength=2.8)
    return to_svg(figure, name, description)


def _draw(axes: Axes, view: View, handles: dict[str, Any]) -> None:
    if not (view.log_x or view.log_y):
        axes.axhline(0, color=GRID, linewidth=1)
    for line in view.lines:
        style = _LINES[line.rank // len(_COLOURS) % len(_LINES)] if line.rank >= len(_COLOURS) else "solid"
        (handle,) = axes.plot(line.x, line.y, color=colour(line.rank), linewidth=1.9, linestyle=style)
        handles.setdefault(literal(line.label), handle)
    if view.log_x:
        axes.set_xscale("log")
    if view.log_y:
        axes.set_yscale("log")
    axes.set_title(view.title)
    axes.set_xlabel(view.x_label)


def colour(rank: int) -> str:
    """The colour of the optimizer of a rank."""
    return _COLOURS[rank % len(_COLOURS)]


@styled
def map_plot(found: Map, ranks: Sequence[int], name: str) -> str:
    """Where optimizers lie, with their names beside them."""
    figure, (axes,) = new_figure(WIDTH, 5.4)
    for x, y, rank in zip(found.x, found.y, ranks, strict=True):
        axes.plot([x], [y], "o", markersize=9, color=colour(rank))
    span = max(max(found.x) - min(found.x), max(found.y) - min(found.y), 0.2)
    middle = [(max(v) + min(v)) / 2 for v in (found.x, found.y)]
    axes.set_xlim(middle[0] - 0.72 * span, middle[0] + 0.82 * span)
    axes.set_ylim(middle[1] - 0.46 * span, middle[1] + 0.46 * span)
    axes.set_aspect("equal", adjustable="box")
    for (x, y), at, label in zip(zip(found.x, found.y, strict=True), _apart(found, span), found.names, strict=True):
        if abs(at - y) > 0.01 * span:
            axes.plot([x, x + 0.03 * span], [y, at], color=MUTED, linewidth=0.6)
        axes.annotate(literal(label), (x + 0.035 * span, at), va="center", color=INK)
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    axes.tick_params(length=0)
    return to_svg(figure, name, described(found))


def _apart(found: Map, span: float) -> list[float]:
    """Heights of the labels, moved apart where points are close."""
    order = sorted(range(len(found.x)), key=lambda k: found.y[k])
    at = list(found.y)
    for place, k in enumerate(order):
        for j in order[:place]:
            if abs(found.x[j] - found.x[k]) < 0.35 * span and at[k] - at[j] < _ROOM * span:
                at[k] = at[j] + _ROOM * span
    return at


def described(found: Map) -> str:
    """The map in words: who is nearest to whom."""
    told = []
    for k, name in enumerate(found.names):
        others = [(found.distances[k][j], found.names[j]) for j in range(len(found.names)) if j != k]
        distance, nearest = min(others)
        told.append(f"{name} is nearest to {nearest}, at {distance:.2f}")
    return f"Map of optimizers. {'; '.join(told)}."
