"""Matplotlib figures as SVG that lives in a page: its text is the page's text, its colours follow the page's theme.

Figures are drawn in stand-in colours (`INK`, `GRID`, `OWN` ...), which become CSS variables, so that the same picture
reads in light, in dark and on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec

from closedform.report._page import stylesheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
OWN = tuple(f"#a0000{index}" for index in range(1, 5))
"""Colours of what was learned."""
BASELINE = tuple(f"#b0000{index}" for index in range(1, 5))
"""Colours of hand-designed optimizers."""
DASHES: tuple[Any, ...] = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Their lines."""
WIDTH = 9.2
"""Of a plot, in inches; the page scales it to its column."""
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}
_VARIABLES |= {colour: f"own-{index}" for index, colour in enumerate(OWN, start=1)}
_VARIABLES |= {colour: f"base-{index}" for index, colour in enumerate(BASELINE, start=1)}

STYLE: Any = {  # matplotlib types its keys one by one
    "axes.prop_cycle": f"cycler(color={list(OWN + BASELINE)})",
    "svg.fonttype": "none",
    "svg.hashsalt": "closedform",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
}
"""Settings of matplotlib (``rc_context``) for a figure that `to_svg` puts into a page."""


def styled(plot: Callable[P, str]) -> Callable[P, str]:
    """Run a plotting function in the page's style, leaving matplotlib's settings as they were."""

    @wraps(plot)
    def inside(*args: P.args, **kwargs: P.kwargs) -> str:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return plot(*args, **kwargs)

    return inside


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with rows x columns axes; to be called in the page's style (`styled`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def literal(text: str) -> str:
    """Text that matplotlib draws as it stands.

    It leaves labels out of legends that are empty or begin with "_", and sets what is between two "$" as mathematics.
    """
    shown = text.replace("$", r"\$")
    return shown if shown and shown[0] != "_" else f"\N{ZERO WIDTH SPACE}{shown}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element.

    Args:
        figure: The figure.
        name: Unique in the page; prefixes the ids inside.
        description: What it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), name, description)


def standalone(svg: str) -> str:
    """A plot of the page as a file of its own, in the page's light colours."""
    css = stylesheet()
    light = dict(re.findall(r"--([\w-]+):\s*([^;]+);", css[: css.index("@media")]))
    svg = re.sub(r"var\(--([\w-]+)\)", lambda match: light[match.group(1)], svg)
    opening, rest = svg.split(">", 1)
    style = f'xmlns="http://www.w3.org/2000/svg" style="background: {light["paper"]}"'
    return f"{opening} {style}>{rest}\n"


def _inline(text: str, name: str, description: str) -> str:
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    box = re.search(r'viewBox="([^"]*)"', body)
    assert box is not None
    opening = f'<svg viewBox="{box.group(1)}" role="img" aria-label="{escape(description, quote=True)}">'
    body = opening + body[body.index(">") + 1 :]
    return re.sub(r"\n\s*", "\n", body).strip()
