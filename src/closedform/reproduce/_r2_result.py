"""What `r2` finds, as tables: fidelity of distilled rules, and the loss of training with them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from closedform.evaluation import Summary
from closedform.reproduce._base import markdown_table
from closedform.reproduce._faithful import STATES, WINDOW, Fidelity
from closedform.reproduce._shipped import reported

if TYPE_CHECKING:
    from rich.table import Table

HEADER = (
    *("network", "space", "R² P1", "R² P2", "seconds", "nodes", "state", "equation"),
    *("paper: P1, P2", "asked of P1", "reached"),
)
LOSS_HEADER = (
    *("network", "numerical", "distilled", "distilled / numerical", "within 10 %", "R² held out", "nodes", "state"),
    *("equation", "paper: numerical", "paper: distilled"),
)


@dataclass(frozen=True)
class R2Row:
    """One network in one search space: medians over the seeds, the equation of the first.

    Attributes:
        network: Its name.
        median: The medians.
    """

    network: str
    median: Fidelity

    @property
    def reached(self) -> bool | None:
        """Whether R^2 on P1 is at least what is asked, within the nodes and buffers allowed; None if nothing is."""
        known, found = reported(self.network), self.median
        if known.asked_r2 is None or found.space != STATES:
            return None
        small = found.state_cost <= (math.inf if known.max_state_cost is None else known.max_state_cost)
        return found.p1 >= known.asked_r2 and found.complexity <= known.max_complexity and small

    @property
    def cells(self) -> list[str]:
        """As text, in the order of `HEADER`."""
        known, found, own = reported(self.network), self.median, self.median.space == STATES
        size = ("", "") if not found.equation else (str(found.complexity), str(found.state_cost))
        return [
            *(self.network, found.space, f"{found.p1:.4f}", f"{found.p2:.4f}", f"{found.seconds:.1f}", *size),
            f"`{found.equation}`" if found.equation else "",
            ", ".join(f"{value:g}" for value in known.r2 or ()) if found.space == WINDOW else "",
            "" if known.asked_r2 is None or not own else f"{known.asked_r2:g}",
            {None: "", True: "yes", False: "no"}[self.reached],
        ]


@dataclass(frozen=True)
class LossRow:
    """Training with the chosen rule against training with its network, on the evaluation's half of the data.

    Attributes:
        network: Its name.
        numerical, distilled: Mean minibatch training loss of the last 20 steps, over seeds.
        ratio: 1 + the difference of losses, seed by seed, as a share of the network's mean loss.
        r2: Of the rule, on held-out episodes.
        complexity, state_cost, equation: Of the rule.
    """

    network: str
    numerical: Summary
    distilled: Summary
    ratio: Summary
    r2: float
    complexity: int
    state_cost: int
    equation: str

    @property
    def within(self) -> bool:
        """Whether the rule's loss is at most 10 % above the network's."""
        return not self.distilled.diverged and self.ratio.mean is not None and self.ratio.mean <= 1.1

    @property
    def cells(self) -> list[str]:
        """As text, in the order of `LOSS_HEADER`."""
        known = reported(self.network)
        told = (
            ", ".join(f"{name} {mean:g}" for name, (mean, _) in of.items()) for of in (known.losses, known.distilled)
        )
        return [
            *(self.network, *map(_interval, (self.numerical, self.distilled, self.ratio))),
            *("yes" if self.within else "no", f"{self.r2:.4f}", str(self.complexity), str(self.state_cost)),
            *(f"`{self.equation}`", *told),
        ]


@dataclass(frozen=True)
class R2Result:
    """The two tables.

    Attributes:
        rows: R^2: for each network the ceiling and both search spaces.
        losses: One row a network whose rule trains at all.
        useless: Networks of whose rules none trains.
        seeds, loss_seeds: Seeds of each.
        tasks: P1, P2, and the task that the losses are of.
        seconds: Wall-clock time of all.
        measured: On what, in words.
    """

    rows: tuple[R2Row, ...]
    losses: tuple[LossRow, ...]
    useless: tuple[str, ...]
    seeds: int
    loss_seeds: int
    tasks: tuple[str, str, str]
    seconds: float
    measured: str

    def table(self) -> Table:
        """The first table, for printing with rich; the losses of training are in the document."""
        from rich.table import Table

        table = Table(*HEADER)
        for row in self.rows:
            table.add_row(*row.cells)
        for loss in self.losses:
            text = f"loss {_interval(loss.distilled)}, of the network {_interval(loss.numerical)}"
            table.add_row(loss.network, "training", "", "", "", str(loss.complexity), str(loss.state_cost), text)
        return table

    def to_markdown(self) -> str:
        """A document with how it was measured."""
        p1, p2, evaluated = self.tasks
        none = f"\nOf these networks no rule trains: {', '.join(self.useless)}.\n" if self.useless else ""
        return f"""# Distilled rules against the networks that they come from

`closedform reproduce r2`; {self.measured}; {self.seconds / 60:.1f} minutes. P1 is {p1}, P2 is {p2}.

Whole episodes of the networks that ship are recorded on P1. "states" searches recurrences with fitted decays, "window"
expressions over past features as the paper does; both are offered the step as well. A rule is judged on fresh episodes
of P1 and P2: it runs on the recorded gradients from the first step on, and nothing is clipped. "ceiling": boosted trees
on the same columns and their moving averages. Medians over {self.seeds} seeds, equations of the first. Distillations
have a time limit, so a much slower machine finds less.

{markdown_table(HEADER, [row.cells for row in self.rows])}

## Training with the rule

Of all seeds' rules the one that trains best on P1 is chosen. Loss: mean minibatch training loss of the last 20 steps on
{evaluated}, on data that nothing was trained on; mean over {self.loss_seeds} seeds with its 95 % interval.

{markdown_table(LOSS_HEADER, [row.cells for row in self.losses])}
{none}"""

    def to_json(self) -> str:
        """The numbers, for machines; R^2 that is not finite is null."""
        rows = [{**asdict(row), "reached": row.reached} for row in self.rows]
        for row in rows:
            row["median"] |= {key: None for key in ("p1", "p2") if not math.isfinite(row["median"][key])}
        losses = [{**asdict(row), "within": row.within} for row in self.losses]
        document = {**asdict(replace(self, rows=(), losses=())), "rows": rows, "losses": losses}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _interval(summary: Summary) -> str:
    bounds = "" if summary.low is None or summary.high is None else f" [{summary.low:.4f}, {summary.high:.4f}]"
    diverged = f" (diverged {summary.diverged}/{summary.count})" if summary.diverged else ""
    return f"{'none' if summary.mean is None else f'{summary.mean:.4f}'}{bounds}{diverged}"
