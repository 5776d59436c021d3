"""The numbers of the table of unseen tasks: rows, what they add up to, and what was asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from closedform.evaluation import (
    Aggregate,
    Interval,
    StepsToTarget,
    Summary,
    aggregate,
    geometric_mean,
    interquartile_mean,
    loss_ratios,
    of_tasks,
    paired_difference,
)
from closedform.reproduce._entrants import REFERENCE, RULE, SINGLE, THREE


@dataclass(frozen=True)
class UnseenRow:
    """One entrant on one task.

    Attributes:
        task, steps: The task, and steps of an episode.
        entrant, label, kind: The entrant.
        lr, schedule, trials: Learning rate and schedule it ran at, and settings that were tried to find them (0: none).
        loss: Mean minibatch training loss of the last steps, over seeds.
        test: Metrics on held-out data.
        on_curve: Steps over the first step at which its smoothed loss curve is at or below the end of AdamW-cosine's,
            tuned for the task; None if it never is.
        to_targets: Reference -> steps to its final loss, by other horizons; of rules.
    """

    task: str
    steps: int
    entrant: str
    label: str
    kind: str
    lr: float | None
    schedule: str
    trials: int
    loss: Summary
    test: Mapping[str, Summary]
    on_curve: float | None
    to_targets: Mapping[str, StepsToTarget | None] = field(default_factory=dict)


@dataclass(frozen=True)
class HorizonRow:
    """One entrant at one horizon of one task."""

    task: str
    steps: int
    entrant: str
    label: str
    lr: float | None
    trials: int
    loss: Summary


@dataclass(frozen=True)
class Against:
    """An entrant against a reference, over all tasks.

    Attributes:
        better: Tasks on which its mean loss is smaller; a diverged seed loses the task.
        clearly_better, clearly_worse: Those of them, and of the others, whose paired interval over seeds excludes 0.
        tasks: All tasks.
        mean: Geometric mean of the ratio of losses; below 1 is better.
        middle: Its interquartile mean.
        worst, worst_task: The largest ratio, and where.
        faster: Geometric mean of steps-to-target ratios by other horizons, above 1 is faster; None where not measured.
        reached: Tasks on which the target was reached at some horizon.
    """

    better: int
    clearly_better: int
    clearly_worse: int
    tasks: int
    mean: Aggregate
    middle: Aggregate
    worst: float
    worst_task: str
    faster: Interval | None
    reached: int | None


@dataclass(frozen=True)
class Verdict:
    """Something that was asked, what was found, and whether that is enough."""

    asked: str
    found: str
    reached: bool


def against(rows: Sequence[UnseenRow], entrant: str, reference: str) -> Against:
    """An entrant against a reference over all tasks."""
    ours = [row for row in rows if row.entrant == entrant]
    theirs = [row for row in rows if row.entrant == reference]
    losses, others = [row.loss.values for row in ours], [row.loss.values for row in theirs]
    ratios = loss_ratios(losses, others)
    worst = int(ratios.argmax())
    signs = [_clearly(mine.loss, other.loss) for mine, other in zip(ours, theirs, strict=True)]
    found = [row.to_targets[reference] for row in ours if reference in row.to_targets]
    measured = [steps for steps in found if steps is not None]
    return Against(
        better=sum(_better(mine.loss, other.loss) for mine, other in zip(ours, theirs, strict=True)),
        clearly_better=signs.count(-1),
        clearly_worse=signs.count(1),
        tasks=len(ours),
        mean=aggregate(losses, others, geometric_mean),
        middle=aggregate(losses, others, interquartile_mean),
        worst=float(ratios[worst]),
        worst_task=ours[worst].task,
        faster=of_tasks([steps.ratio for steps in measured]) if measured else None,
        reached=sum(steps.reached for steps in measured) if measured else None,
    )


def _better(ours: Summary, theirs: Summary) -> bool:
    return ours.rank < theirs.rank


def _clearly(ours: Summary, theirs: Summary) -> int:
    """-1 if the paired interval of the difference is below 0, 1 if above or ours diverged, else 0."""
    if ours.diverged:
        return 1
    loss = paired_difference(ours.values, theirs.values)
    if loss.low is None or loss.high is None:
        return 0
    return -1 if loss.high < 0 else int(loss.low > 0)


def verdicts(rows: Sequence[UnseenRow], horizons: Sequence[HorizonRow]) -> tuple[Verdict, ...]:
    """What is asked of a rule, for each rule that takes part."""
    kinds = {row.entrant: row.kind for row in rows}
    found: list[Verdict] = []
    for entrant, kind in kinds.items():
        if kind == RULE:
            found += _untuned(entrant, against(rows, entrant, SINGLE), against(rows, entrant, REFERENCE))
            found += _over_horizons(entrant, horizons)
        elif kind == THREE:
            tuned = against(rows, entrant, REFERENCE)
            found.append(_count(f"{entrant} against AdamW-cosine tuned for each task", tuned, 8))
    return tuple(found)


def _untuned(name: str, single: Against, tuned: Against) -> list[Verdict]:
    found = [_count(f"{name} untuned against AdamW-cosine at its best single rate", single, 8)]
    if single.faster is not None:
        asked = f"{name} untuned: geometric mean of steps to that target at least 1.3 times fewer"
        text = f"{single.faster.value:.2f} [{single.faster.low:.2f}, {single.faster.high:.2f}]"
        found.append(Verdict(asked, text, single.faster.value >= 1.3))
    found.append(_count(f"{name} untuned against AdamW-cosine tuned for each task", tuned, 6))
    asked = f"{name} untuned: nowhere above 1.5 times the loss of AdamW-cosine tuned for each task"
    found.append(Verdict(asked, f"{tuned.worst:.2f} on {tuned.worst_task}", tuned.worst <= 1.5))
    return found


def _count(what: str, found: Against, of_ten: int) -> Verdict:
    """A share of ten tasks; where there are fewer, the same share."""
    text = f"{found.better} of {found.tasks} ({found.clearly_better} clearly, {found.clearly_worse} clearly worse)"
    return Verdict(f"{what}: better on {of_ten} of 10", text, 10 * found.better >= of_ten * found.tasks)


def _over_horizons(name: str, horizons: Sequence[HorizonRow]) -> list[Verdict]:
    references = {row.steps: row.loss for row in horizons if row.entrant == REFERENCE}
    found, fine = [], True
    for row in horizons:
        if row.entrant != name:
            continue
        theirs = references[row.steps]
        ratio = None if row.loss.diverged else float(loss_ratios([row.loss.values], [theirs.values])[0])
        found.append(f"{row.steps} steps: {'diverged' if ratio is None else f'{ratio:.2f}'}")
        fine = fine and ratio is not None and ratio <= 1.2
    asked = f"{name} untuned: at every horizon within 1.2 times AdamW-cosine tuned there"
    return [Verdict(asked, ", ".join(found), fine)] if found else []


@dataclass(frozen=True)
class UnseenNumbers:
    """All that was measured.

    Attributes:
        rows: Task by task, entrants in one order.
        horizons: The study of horizons.
        verdicts: What was asked, and found.
        single_rate: AdamW-cosine's best single learning rate over all tasks.
        seeds: Reporting seeds.
        seconds: Wall-clock time of all.
        measured: On what, in words.
    """

    rows: tuple[UnseenRow, ...]
    horizons: tuple[HorizonRow, ...]
    verdicts: tuple[Verdict, ...]
    single_rate: float
    seeds: int
    seconds: float
    measured: str

    @property
    def entrants(self) -> dict[str, str]:
        """Name -> label, in order."""
        return {row.entrant: row.label for row in self.rows}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    def of(self, entrant: str) -> tuple[UnseenRow, ...]:
        """One entrant's rows."""
        return tuple(row for row in self.rows if row.entrant == entrant)

    def against(self, reference: str) -> dict[str, Against]:
        """Every other entrant against a reference."""
        return {name: against(self.rows, name, reference) for name in self.entrants if name != reference}

    def profile(self) -> tuple[dict[str, tuple[float | None, ...]], list[str]]:
        """Label -> one mean loss a task, for the performance profile; and the labels of the rules."""
        losses = {
            label: tuple(None if row.loss.diverged else row.loss.mean for row in self.of(name))
            for name, label in self.entrants.items()
        }
        return losses, [row.label for row in self.rows if row.kind in (RULE, THREE)]
