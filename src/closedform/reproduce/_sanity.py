"""The paper's sanity check: recover known update rules from recordings of gradients and updates alone.

Two search spaces are compared. **window**: expressions over the last 20 gradients, as in the paper. **states**:
expressions over recurrences with fitted decays, from the gradient alone. Neither is told what made the updates.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closedform._names import lookup
from closedform._options import check_count
from closedform._progress import Progress
from closedform.distillation import Entry, HallOfFame, distill
from closedform.reproduce._base import markdown_table, measured_on, save
from closedform.reproduce._replay import replayed, rule_updates
from closedform.reproduce._targets import TARGETS, Target
from closedform.rules import Rule
from closedform.trajectories import Trajectories, record

if TYPE_CHECKING:
    from rich.table import Table

TASK = "mlp-digits"
WINDOW = 20
FRESH = 900_000
"""Added to a seed: the recording on which a rule is compared with the truth, unlike any that was fitted or held out."""
EXACT, DECAY_DIGITS = 1e-8, 5e-4
"""1 - R^2 on the fresh recording and error of a decay up to which a rule counts as recovered exactly."""
CLOSE = 1e-8
"""R^2 that the rule shown may lack of the best one's, if it is smaller."""
HEADER = (
    *("target", "space", "R²", "1 − R²", "seconds", "CPU s", "nodes", "state", "exact", "equation", "decays"),
    *("paper: R²", "paper: s", "paper: recovered"),
)
WINDOW_OPTIONS: Mapping[str, Any] = {"decays": (), "generations": 20}
Score = dict[str, Any]


@dataclass(frozen=True)
class SanityRow:
    """One target in one search space: medians over the seeds.

    Attributes:
        target: Its name in ``TARGETS``.
        space: ``states`` or ``window``.
        r2, error: R^2 on held-out episodes, and 1 - R^2.
        seconds, cpu_seconds: Of the distillation, by the wall and of the processors.
        complexity, state_cost: Of the equation shown.
        exact: In how many seeds the rule was recovered exactly: the same updates on a fresh recording, no more state
            than the truth, every decay to 3 digits.
        equation, decays: Those of the first seed.
    """

    target: str
    space: str
    r2: float
    error: float
    seconds: float
    cpu_seconds: float
    complexity: int
    state_cost: int
    exact: int
    equation: str
    decays: Mapping[str, float]


@dataclass(frozen=True)
class SanityResult:
    """The table.

    Attributes:
        rows: Its rows.
        seeds: Seeds that each row is the median of.
        measured: On what, in words.
    """

    rows: tuple[SanityRow, ...]
    seeds: int
    measured: str

    def table(self) -> Table:
        """For printing with rich."""
        from rich.table import Table

        table = Table(*HEADER)
        for cells in self._cells():
            table.add_row(*cells)
        return table

    def to_markdown(self) -> str:
        """A document with how it was measured."""
        found = [(row.target, f"{row.exact}/{self.seeds}") for row in self.rows if row.space == "states"]
        exact = ", ".join(name for name, share in found if share == f"{self.seeds}/{self.seeds}") or "none"
        return f"""# Sanity check: known rules recovered from recordings

`closedform reproduce sanity`; {self.measured}. Medians over {self.seeds} seeds, equations of the first.

{TASK}, 8 episodes of 300 steps, 96 parameters each, 10,000 rows; a quarter of the episodes is held out. The search sees
gradients and updates alone. "states" searches recurrences with fitted decays, "window" expressions over the last
{WINDOW} gradients, as the paper does. Exact: on a fresh recording 1 - R² < {EXACT:g}, no more state than the truth, all
decays to 3 digits. The second and third targets are no optimizers: their updates are computed on recorded gradients,
each divided by its root mean square and taken through asinh.

Recovered exactly in every seed, by states: {exact}.

{markdown_table(HEADER, ([*cells[:9], f"`{cells[9]}`", *cells[10:]] for cells in self._cells()))}
"""

    def to_json(self) -> str:
        """The numbers, for machines."""
        document = {"seeds": self.seeds, "measured": self.measured, "rows": [asdict(row) for row in self.rows]}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _cells(self) -> Iterator[list[str]]:
        for row in self.rows:
            paper = TARGETS[row.target].paper
            told = (f"{paper.r2:g}", f"{paper.seconds:g}", paper.recovered) if paper else ("", "", "")
            decays = ", ".join(f"{name.removeprefix('d_')} {value:g}" for name, value in row.decays.items())
            numbers = (f"{row.r2:.6f}", f"{row.error:.1e}", f"{row.seconds:.2f}", f"{row.cpu_seconds:.2f}")
            counts = (str(row.complexity), str(row.state_cost), f"{row.exact}/{self.seeds}")
            yield [row.target, row.space, *numbers, *counts, row.equation, decays, *told]


def sanity(
    seeds: int = 5,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    targets: Sequence[str] | None = None,
    spaces: Sequence[str] = ("states", "window"),
    quick: bool = False,
) -> SanityResult:
    """Recover known update rules, in both search spaces; the window, which is slow, for the paper's targets only.

    Args:
        seeds: Recordings and searches of each target; their medians are shown.
        out: Folder to write ``reproduce_sanity.md`` and ``.json`` to.
        progress: Called before every part.
        targets: Names in ``TARGETS``; None: all.
        spaces: ``states``, ``window`` or both.
        quick: One seed, and in the states alone, whatever the others say.

    Raises:
        OptionError: ``seeds`` is not a whole number of at least 1.
        UnknownNameError: no such target or space.
    """
    check_count("seeds", seeds)
    if quick:
        seeds, spaces = 1, ("states",)
    chosen = [lookup("target", name, TARGETS) for name in (TARGETS if targets is None else targets)]
    searches = {space: lookup("search space", space, SPACES) for space in spaces}
    parts = [(target, space) for space in searches for target in chosen if target.paper or space == "states"]
    rows = []
    for done, (target, space) in enumerate(parts):
        if progress is not None:
            progress(done, len(parts), f"{target.name}, {space}")
        rows.append(_row(target, space, [_score(target, searches[space], seed) for seed in range(seeds)]))
    result = SanityResult(tuple(rows), seeds, measured_on())
    if out is not None:
        save(result, Path(out), "sanity")
    return result


def _in_states(recording: Trajectories, seed: int) -> HallOfFame:
    return distill(recording, seed=seed)


def _in_window(recording: Trajectories, seed: int) -> HallOfFame:
    return distill(recording, seed=seed, **WINDOW_OPTIONS)


SPACES: dict[str, tuple[int, Callable[[Trajectories, int], HallOfFame]]] = {
    "states": (0, _in_states),
    "window": (WINDOW, _in_window),
}
"""Search space -> steps that the columns look back, and the search."""


def recording_of(target: Target, seed: int, window: int = 0, episodes: int = 8) -> Trajectories:
    """A recording of a target: of its own run on the task, or its updates on another's gradients."""
    if target.replay:
        other = record("sgd", TASK, seed=seed, episodes=episodes)
        return replayed(other, target.rule, window=window, standardise=True)
    return record(target.rule, TASK, features=("g",), window=window, seed=seed, episodes=episodes)


def _score(target: Target, search: tuple[int, Callable[[Trajectories, int], HallOfFame]], seed: int) -> Score:
    window, find = search
    recording = recording_of(target, seed, window)
    wall, processor = time.monotonic(), time.process_time()
    hall = find(recording, seed)
    seconds, cpu_seconds = time.monotonic() - wall, time.process_time() - processor
    entry = hall.choose(tolerance=CLOSE)
    return {
        "r2": entry.r2,
        "error": entry.error,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "complexity": entry.complexity,
        "state_cost": entry.state_cost,
        "exact": _is_exact(entry, target, seed),
        "equation": entry.equation,
        "decays": _decays(entry.rule),
    }


def _row(target: Target, space: str, scores: Sequence[Score]) -> SanityRow:
    numbers = ("r2", "error", "seconds", "cpu_seconds")
    middle = {key: statistics.median(score[key] for score in scores) for key in numbers}
    whole = {key: statistics.median_low(score[key] for score in scores) for key in ("complexity", "state_cost")}
    exact = sum(score["exact"] for score in scores)
    first = {key: scores[0][key] for key in ("equation", "decays")}
    return SanityRow(target.name, space, **middle, **whole, exact=exact, **first)


def _is_exact(entry: Entry, target: Target, seed: int) -> bool:
    fresh = recording_of(target, seed + FRESH, episodes=2)
    found = rule_updates(entry.rule, fresh.gradients.double(), fresh.weights.double())
    truth = fresh.episode_updates.double()
    error = float((found - truth).square().sum() / (truth - truth.mean()).square().sum())
    near = [min((abs(decay - other) for other in _decays(entry.rule).values()), default=1.0) for decay in target.decays]
    return error < EXACT and entry.state_cost <= target.rule.state_cost and max(near, default=0.0) <= DECAY_DIGITS


def _decays(rule: Rule) -> dict[str, float]:
    return {name: value for name, value in rule.constants.items() if name.startswith("d_")}
