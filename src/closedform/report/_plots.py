"""The report's plots. Each takes data and gives an ``<svg>`` element."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from closedform.evaluation import EvaluationEntry, interval, number, rate
from closedform.report._svg import (
    BASELINE,
    DASHES,
    GRID,
    INK,
    MUTED,
    OWN,
    PAPER,
    WIDTH,
    literal,
    new_figure,
    styled,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from closedform.optim import RangeTest

_DOTS: Any = (0, (1.5, 2))
_MARKERS = "osD^vPX*"
MANY = 60
"""Points above which a line is drawn thin, with its running mean over it."""


@dataclass(frozen=True)
class Look:
    """How one optimizer is drawn, the same in all plots."""

    colour: str
    dashes: Any
    width: float
    marker: str


def looks(entries: Sequence[EvaluationEntry]) -> dict[str, Look]:
    """What was learned in strong solid lines, hand-designed optimizers in thin dashed ones; by name."""
    found: dict[str, Look] = {}
    for family, own in ((("rule", "learned"), True), (("baseline",), False)):
        names = dict.fromkeys(entry.name for entry in entries if entry.kind in family)
        for index, name in enumerate(names):
            colour = (OWN if own else BASELINE)[index % 4]
            found[name] = Look(colour, "solid" if own else DASHES[index % 4], 2.2 if own else 1.5, _MARKERS[index % 4])
    return found


@styled
def loss_curves(entries: Sequence[EvaluationEntry], name: str) -> str:
    """Training loss against step, with intervals over seeds."""
    figure, (axes,) = new_figure(WIDTH, 4.4)
    styles = looks(entries)
    for entry in sorted(entries, key=lambda entry: entry.kind != "baseline"):
        style, curve = styles[entry.name], entry.curve
        x, mean = list(curve.steps), _plain(curve.mean)
        axes.fill_between(x, _plain(curve.low), _plain(curve.high), color=style.colour, alpha=0.14, linewidth=0)
        axes.plot(x, mean, color=style.colour, linestyle=style.dashes, linewidth=style.width, label=_label(entry))
    _logarithmic(axes, "y")
    axes.set_xlabel("step")
    axes.set_ylabel("minibatch training loss")
    axes.set_xlim(0, max(entry.steps for entry in entries))
    ranked = sorted(entries, key=lambda entry: entry.final_loss.rank, reverse=True)
    _legend_beside(axes, [_label(entry) for entry in ranked])
    described = "; ".join(f"{entry.label} ends at {interval(entry.final_loss)}" for entry in entries)
    return to_svg(figure, name, f"Training loss against step, logarithmic. {described}.")


@styled
def final_losses(entries: Sequence[EvaluationEntry], name: str) -> str:
    """Final losses as dots with intervals, best at the top."""
    ranked = [entry for entry in sorted(entries, key=lambda e: e.final_loss.rank) if entry.final_loss.mean is not None]
    figure, (axes,) = new_figure(WIDTH, 0.8 + 0.33 * len(ranked))
    styles = looks(entries)
    for row, entry in enumerate(ranked):
        found, style = entry.final_loss, styles[entry.name]
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [row, row], color=style.colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot(_plain([found.mean]), [row], style.marker, color=style.colour, markersize=7)
    axes.set_yticks(range(len(ranked)), [_label(entry) for entry in ranked])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    if all(entry.final_loss.mean and entry.final_loss.mean > 0 for entry in ranked):
        _logarithmic(axes, "x")
    axes.set_xlabel("final loss")
    described = "; ".join(f"{entry.label} {interval(entry.final_loss)}" for entry in ranked)
    return to_svg(figure, name, f"Final losses, best first: {described}.")


@styled
def tuning_curves(entries: Sequence[EvaluationEntry], name: str) -> str:
    """Final loss against learning rate of every tuned baseline, the chosen one marked."""
    figure, (axes,) = new_figure(WIDTH, 3.4)
    styles = looks(entries)
    tuned = [entry for entry in entries if entry.tuning]
    for entry in tuned:
        assert entry.tuning is not None
        style, losses = styles[entry.name], _plain(entry.tuning.losses)
        axes.plot(
            entry.tuning.lrs, losses, color=style.colour, linewidth=1.5, marker=style.marker, markersize=4,
            linestyle=style.dashes, label=literal(entry.label),
        )  # fmt: skip
        best = entry.tuning.lrs.index(entry.tuning.best)
        axes.plot(
            [entry.tuning.best], [losses[best]], "o", markersize=12, markerfacecolor="none",
            markeredgecolor=style.colour, markeredgewidth=1.6,
        )  # fmt: skip
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("final loss, tuning seeds")
    _legend_beside(axes, [literal(entry.label) for entry in tuned])
    described = "; ".join(f"{entry.label} is best at {rate(entry.lr)}" for entry in tuned)
    return to_svg(figure, name, f"Final loss against learning rate of each tuned baseline: {described}.")


@styled
def training_curve(train: Series, validation: Series, name: str, what: str, step: str = "meta-step") -> str:
    """A meta-training curve: the meta-loss of every step, and the validation."""
    shown = [(series, colour) for series, colour in ((train, OWN[0]), (validation, OWN[2])) if series.y]
    figure, all_axes = new_figure(WIDTH, 3.2, columns=len(shown))
    for axes, (series, colour) in zip(all_axes, shown, strict=True):
        if len(series.x) > MANY:
            axes.plot(series.x, series.y, color=colour, linewidth=0.8, alpha=0.3)
            axes.plot(*smooth(series.x, series.y), color=colour, linewidth=2)
        else:
            axes.plot(series.x, series.y, color=colour, linewidth=2, marker="o", markersize=4)
        axes.set_xlabel(step)
        axes.set_title(series.label)
        if min(series.y) > 0:
            _logarithmic(axes, "y")
    described = ". ".join(f"{s.label}: {number(s.y[0])} at first, {number(s.y[-1])} at the end" for s, _ in shown)
    return to_svg(figure, name, f"{what}. {described}.")


@styled
def range_test_plot(found: RangeTest, name: str) -> str:
    """Loss against learning rate, with what is suggested."""
    figure, (axes,) = new_figure(WIDTH, 3.6)
    axes.plot(found.lrs, found.losses, color=OWN[0], linewidth=0.8, alpha=0.4)
    axes.plot(found.lrs, found.smooth, color=OWN[0], linewidth=2.2, label="loss, averaged")
    axes.axvline(found.suggestion, color=OWN[2], linewidth=1.6, label=f"suggested: {_math(found.suggestion)}")
    axes.axvline(found.steepest, color=MUTED, linewidth=1.2, linestyle=DASHES[0], label="falls fastest")
    axes.axvline(found.lrs[found.least], color=MUTED, linewidth=1.2, linestyle=DASHES[1], label="least")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate, rising from step to step")
    axes.set_ylabel("minibatch loss")
    axes.legend(loc="best")
    described = f"suggested is {rate(found.suggestion)}; the loss falls fastest at {rate(found.steepest)}"
    return to_svg(figure, name, f"Range test of the learning rate: {described}.")


@dataclass(frozen=True)
class Series:
    """A labelled line.

    Attributes:
        label: What y is.
        x, y: Points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class HallPoint:
    """One equation of the hall of fame, as drawn."""

    complexity: int
    error: float
    state_cost: int
    chosen: bool


@styled
def hall_of_fame(points: Sequence[HallPoint], name: str) -> str:
    """Error against complexity, one colour a state cost, the chosen equation marked; dot k is ``NAME-point-k``."""
    figure, (axes,) = new_figure(WIDTH, 3.8)
    ordered = sorted(points, key=lambda point: point.complexity)
    front = [p for k, p in enumerate(ordered) if all(p.error < other.error for other in ordered[:k])]
    axes.step([p.complexity for p in front], [p.error for p in front], where="post", color=MUTED, linewidth=0.8)
    costs = sorted({point.state_cost for point in ordered})
    for cost, (marker, colour) in zip(costs, itertools.cycle(zip(_MARKERS, OWN + BASELINE, strict=True)), strict=False):
        label = f"{cost} buffer{'s' * (cost != 1)} a parameter"
        for k, point in enumerate(points):
            if point.state_cost == cost:
                axes.plot(
                    [point.complexity], [point.error], marker, color=colour, markersize=7.5, markeredgecolor=PAPER,
                    label=label, gid=f"point-{k}",
                )  # fmt: skip
                label = ""
    for point in ordered:
        if point.chosen:
            axes.plot(
                [point.complexity], [point.error], "o", markersize=15, markerfacecolor="none", markeredgecolor=OWN[2],
                markeredgewidth=2.2,
            )  # fmt: skip
            axes.annotate(
                f"chosen: {point.complexity} nodes, error {_math(point.error)}", (point.complexity, point.error),
                xytext=(12, 12), textcoords="offset points", color=OWN[2],
            )  # fmt: skip
    _logarithmic(axes, "y")
    axes.set_xlabel("complexity (nodes)")
    axes.set_ylabel("held-out error, 1 − R²")
    axes.legend(loc="upper right")
    described = "; ".join(f"{p.complexity} nodes, error {number(p.error, 2)}" for p in ordered)
    return to_svg(figure, name, f"Hall of fame, error against complexity: {described}.")


@dataclass(frozen=True)
class Panel:
    """One plot of a response: lines over a common axis.

    Attributes:
        title, x_label: Texts.
        x: Points of the axis.
        reference: The network's line, and its band (low, high) if it has one.
        lines: Label -> another line.
        shapes: Label of a line -> a second, dotted one in its colour.
    """

    title: str
    x_label: str
    x: Sequence[float]
    reference: tuple[str, Sequence[float]] | None
    band: tuple[Sequence[float], Sequence[float]] | None
    lines: Mapping[str, Sequence[float]]
    shapes: Mapping[str, Sequence[float]]


@styled
def responses(panels: Sequence[Panel], name: str) -> str:
    """Small multiples of responses, with one legend."""
    columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, all_axes = new_figure(WIDTH, 0.5 + 2.9 * rows, rows, columns)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(all_axes, panels, strict=False):
        _response(axes, panel)
    all_axes[0].set_ylabel("update")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return to_svg(figure, name, "Update as a function of " + ", ".join(panel.x_label for panel in panels) + ".")


def _response(axes: Axes, panel: Panel) -> None:
    axes.axhline(0, color=GRID, linewidth=1)
    if panel.band:
        axes.fill_between(panel.x, *panel.band, color=OWN[0], alpha=0.15, linewidth=0)
    if panel.reference:
        axes.plot(panel.x, panel.reference[1], color=OWN[0], linewidth=2.6, label=panel.reference[0])
    for (label, line), colour in zip(panel.lines.items(), OWN[1:] * 2, strict=False):
        axes.plot(panel.x, line, color=colour, linewidth=1.8, label=literal(label))
        if label in panel.shapes:
            axes.plot(panel.x, panel.shapes[label], color=colour, linewidth=1.4, linestyle=_DOTS)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)


def _legend_beside(axes: Axes, order: Sequence[str]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    axes.legend(
        [found[label] for label in order], order, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6
    )


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis labelled in plain numbers; with 2 and 5 where it spans little, linear where hardly any."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    spanned = getattr(axes.dataLim, f"interval{which}")
    if spanned[0] > 0 and spanned[1] / spanned[0] < 2:
        return
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    if high / low < 200:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _math(value)))
    axis.set_minor_formatter(NullFormatter())


def _label(entry: EvaluationEntry) -> str:
    tuned = f" ({_math(entry.lr)})" if entry.tuning and entry.lr else ""
    diverged = f", diverged {entry.final_loss.diverged}/{entry.final_loss.count}" if entry.final_loss.diverged else ""
    return f"{literal(entry.label)}{tuned}{diverged}"


def _math(value: float) -> str:
    """A number as matplotlib sets it: its fonts may lack superscript digits."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    if not exponent:
        return mantissa
    factor = "" if mantissa == "1" else rf"{mantissa}\cdot"
    return f"${factor}10^{{{int(exponent)}}}$"


def _plain(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def smooth(x: Sequence[float], y: Sequence[float], bins: int = MANY) -> tuple[list[float], list[float]]:
    """Means over neighbours, at most ``bins`` of them; what is not finite is left out."""
    size = math.ceil(len(x) / bins)
    starts = range(0, len(x), size)
    chunks = [[value for value in y[i : i + size] if math.isfinite(value)] for i in starts]
    centres = [sum(x[i : i + size]) / len(x[i : i + size]) for i in starts]
    return centres, [sum(chunk) / len(chunk) if chunk else math.nan for chunk in chunks]
