"""The report's section on all tasks together: performance profile, geometric and interquartile means, worst case."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from closedform.evaluation import (
    ABSENT,
    CAP,
    Entry,
    Evaluation,
    aggregate,
    geometric_mean,
    interquartile_mean,
    loss_ratios,
    number,
    performance_profile,
    trials,
)
from closedform.report._page import Block, Cell, Figure, Table, TableColumn, Text
from closedform.report._svg import BASELINE, DASHES, OWN, WIDTH, literal, new_figure, styled, to_svg

_FARTHEST = 10.0
"""The largest factor that is drawn."""


def all_tasks(evaluation: Evaluation) -> list[Block]:
    """Profile and table; nothing where there is one task, or an optimizer did not take part in all."""
    tasks = evaluation.tasks
    names = list(dict.fromkeys(entry.name for entry in evaluation.entries))
    field = {name: [entry for entry in evaluation.entries if entry.name == name] for name in names}
    if len(tasks) < 2 or any(len(entries) < len(tasks) for entries in field.values()):
        return []
    losses = {
        entries[0].label: [None if entry.final_loss.diverged else entry.final_loss.mean for entry in entries]
        for entries in field.values()
    }
    own = [entries[0].label for entries in field.values() if entries[0].kind != "baseline"]
    caption = "Share of tasks on which an optimizer ends within a factor of the best; higher is better."
    blocks: list[Block] = [Figure(profile_plot(losses, own, "profile"), caption)]
    references = [entry for task in tasks if (entry := evaluation.best_baseline(task)) is not None]
    if len(references) == len(tasks) and all(_usable(entry) for entry in references):
        blocks += [Text(_HOW), Table(_COLUMNS, [("", _cells(entries, references)) for entries in field.values()])]
    return blocks


_HOW = (
    "Ratios are of an optimizer's mean final loss to that of the best tuned baseline of the task; below 1 is better. "
    f"A diverged run counts as {CAP:g} times that baseline's loss, and no ratio as more. Brackets are bootstrap "
    "intervals: over seeds, and with the tasks drawn anew."
)
_COLUMNS = [
    TableColumn("optimizer", ""),
    TableColumn("geometric mean"),
    TableColumn("over tasks"),
    TableColumn("interquartile mean"),
    TableColumn("worst"),
    TableColumn("trials a task"),
]


def _usable(entry: Entry) -> bool:
    loss = entry.final_loss
    return not loss.diverged and loss.mean is not None and loss.mean > 0


def _cells(entries: list[Entry], references: list[Entry]) -> list[Cell]:
    ours, theirs = ([entry.final_loss.values for entry in group] for group in (entries, references))
    mean, middle = aggregate(ours, theirs, geometric_mean), aggregate(ours, theirs, interquartile_mean)
    seeds, over = mean.over_seeds, mean.over_tasks
    ratios = loss_ratios(ours, theirs)
    worst = int(ratios.argmax())
    budgets = dict.fromkeys(trials(entry) for entry in entries)
    return [
        entries[0].label,
        f"{number(seeds.value)} [{number(seeds.low)}, {number(seeds.high)}]",
        f"[{number(over.low)}, {number(over.high)}]",
        number(middle.value),
        f"{number(float(ratios[worst]))} ({entries[worst].task})",
        ", ".join(budgets) or ABSENT,
    ]


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
    figure, (axes,) = new_figure(WIDTH, 4.2)
    strong, thin = itertools.cycle(OWN), itertools.cycle(zip(BASELINE, DASHES, strict=True))
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
