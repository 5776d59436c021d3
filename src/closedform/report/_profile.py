"""The plot of performance profiles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from closedform.evaluation import performance_profile
from closedform.report._svg import BASELINE, OWN, literal, new_figure, styled, to_svg

_WIDTH, _HEIGHT = 9.2, 4.2
_FARTHEST = 10.0
"""The largest factor that is drawn."""
_DASHES = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)))


@styled
def profile_plot(losses: Mapping[str, Sequence[float | None]], own: Sequence[str], name: str) -> str:
    """Share of tasks on which each optimizer ends within a factor tau of the best, against tau.

    Args:
        losses: Label -> one mean loss a task, None where it diverged.
        own: Labels drawn in solid lines: what was learned.
        name: Prefix of ids, unique in a page.

    Returns:
        An ``<svg>`` element.
    """
    taus = np.geomspace(1.0, _FARTHEST, 400)
    shares = performance_profile(losses, [float(tau) for tau in taus])
    figure, (axes,) = new_figure(_WIDTH, _HEIGHT)
    strong, thin = itertools.cycle(OWN), itertools.cycle(zip(BASELINE, _DASHES, strict=True))
    for label in losses:
        colour, dashes = (next(strong), "solid") if label in own else next(thin)
        width = 2.4 if label in own else 1.5
        axes.plot(taus, shares[label], color=colour, linestyle=dashes, linewidth=width, label=literal(label))
    axes.set(xscale="log", xlim=(1, _FARTHEST), ylim=(0, 1.02))
    axes.set_xticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("factor of the best loss")
    axes.set_ylabel("share of tasks within it")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6)
    best = performance_profile(losses, [1.0])
    described = "; ".join(f"{label} is best on {share[0]:.0%}" for label, share in best.items())
    return to_svg(figure, name, f"Performance profile: share of tasks within a factor of the best loss. {described}.")
