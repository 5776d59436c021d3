"""Select the one rule of a hall of fame that is used: by description length, or by what the rules do.

R^2 says how well a rule copies its teacher step by step; small errors may add up once the rule decides where training
goes. So the candidates run whole episodes, on the task that was recorded and on one that was not, with the data of
meta-training (``train``), which leaves the data of evaluation unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from closedform._options import check_count, check_seed
from closedform._progress import Progress
from closedform.distillation._hall import Entry, HallOfFame
from closedform.errors import DistillationError, DivergenceError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule
from closedform.tasks import Task, as_tasks
from closedform.unroll import Problem, begin, steps

SPLIT = "train"
EXPLODED_END, EXPLODED_ONCE = 2.0, 1000.0
"""Times its first loss that an episode may end with, and that it may reach at any time."""
AS_GOOD = 0.01
"""Relative difference of scores below which the smaller equation is taken."""
_TINY = 1e-12


@dataclass(frozen=True)
class Trial:
    """What a candidate did.

    Attributes:
        entry: The candidate.
        losses: Task -> mean final training loss over seeds, of an episode's last tenth; None if it was rejected there.
        rejected: Why it was rejected; None if it was not.
    """

    entry: Entry
    losses: dict[str, float | None]
    rejected: str | None

    @property
    def score(self) -> float:
        """The geometric mean of the losses over tasks, whose losses differ in scale; infinite if it was rejected."""
        values = list(self.losses.values())
        if self.rejected is not None or not values:
            return math.inf
        return math.exp(sum(math.log(max(value or 0.0, 0.0) + _TINY) for value in values) / len(values))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, for provenance."""
        entry = self.entry
        return {
            "equation": entry.equation,
            "r2": entry.r2,
            "complexity": entry.complexity,
            "state_cost": entry.state_cost,
            "losses": dict(self.losses),
            "score": self.score if math.isfinite(self.score) else None,
            "rejected": self.rejected,
        }


@dataclass(frozen=True)
class Selection:
    """The outcome of `select`.

    Attributes:
        entry: The chosen entry of the hall.
        rule: Its rule; ``provenance["chosen"]`` says why it, with all candidates' R^2, sizes and losses.
        trials: All candidates that trained, the most faithful first.
        reason: Why, in one sentence.
    """

    entry: Entry
    rule: Rule
    trials: tuple[Trial, ...]
    reason: str


def select(
    hall: HallOfFame,
    tasks: Sequence[Task | str] = (),
    *,
    unseen: Sequence[Task | str] = (),
    top: int = 5,
    seeds: int = 2,
    length: int | None = None,
    first_seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Select one of a hall's equations: the one that ``hall.choose()`` gives, or with tasks the best trainer.

    With tasks the most faithful equations train optimizees, and the one whose losses end lowest is kept. A candidate
    whose loss is not finite at some step, or explodes, is rejected, whatever its R^2.

    Args:
        hall: The hall of fame.
        tasks: The recorded tasks, or their names; with none, here or in ``unseen``, nothing is trained.
        unseen: Tasks that were not recorded.
        top: How many equations of least error to try; the one that ``hall.choose()`` gives is always among them.
        seeds: Episodes of each task.
        length: Steps of an episode; each task's own horizon if None.
        first_seed: The first episode's seed.
        progress: Called after every candidate.

    Raises:
        DivergenceError: every candidate was rejected.
        DistillationError: the hall is empty.
        OptionError, UnknownNameError: an option makes no sense.
    """
    for name, value in {"top": top, "seeds": seeds, "length": 1 if length is None else length}.items():
        check_count(name, value)
    check_seed("first_seed", first_seed)
    if not (tasks or unseen):
        entry = hall.choose()
        return Selection(
            entry, entry.rule, (), "the shortest description of the recording: errors and equation together"
        )
    field = as_tasks((*tasks, *unseen))
    judge = _Judge(field, length, range(first_seed, first_seed + seeds))
    trials: list[Trial] = []
    candidates = _candidates(hall, top)
    for entry in candidates:
        trials.append(judge.trial(entry))
        if progress is not None:
            progress(len(trials), len(candidates), entry.equation)
    best = _best(trials)
    reason = _reason(best, trials, field, len(tasks))
    chosen = {"by": "closed-loop training loss", "reason": reason, "candidates": [trial.to_dict() for trial in trials]}
    rule = best.entry.rule
    return Selection(best.entry, replace(rule, provenance={**rule.provenance, "chosen": chosen}), tuple(trials), reason)


def select_closed_loop(hall: HallOfFame, tasks: Sequence[Task | str], **options: Any) -> Selection:
    """`select` by what rules do alone.

    Raises:
        OptionError: there is no task.
    """
    check_count("tasks", len([*tasks, *options.get("unseen", ())]))
    return select(hall, tasks, **options)


@dataclass(frozen=True)
class _Judge:
    tasks: Sequence[Task]
    length: int | None
    seeds: Sequence[int]

    def trial(self, entry: Entry) -> Trial:
        losses: dict[str, float | None] = {}
        for task in self.tasks:
            found = [self.episode(entry.rule, task, seed) for seed in self.seeds]
            wrong = next((text for text in found if isinstance(text, str)), None)
            if wrong is not None:
                return Trial(entry, {**losses, task.name: None}, wrong)
            losses[task.name] = sum(value for value in found if isinstance(value, float)) / len(found)
        return Trial(entry, losses, None)

    def episode(self, rule: Rule, task: Task, seed: int) -> float | str:
        """The final loss, or what went wrong."""
        optimizer, problem = SymbolicOptimizer(rule), Problem(task, SPLIT)
        length = self.length or task.horizon
        carry = begin(optimizer, problem, torch.Generator().manual_seed(7_919 + seed), length)
        limit = max(abs(float(carry.initial)), _TINY)
        losses: list[float] = []
        with torch.no_grad():
            for step in steps(optimizer, problem, carry, length):
                losses.append(float(step.after.loss))
                if not math.isfinite(losses[-1]):
                    return f"diverges on {task.name} at step {len(losses)}"
                if losses[-1] > EXPLODED_ONCE * limit:
                    return (
                        f"explodes on {task.name}: {losses[-1] / limit:.3g} times its first loss at step {len(losses)}"
                    )
        tail = losses[-max(1, len(losses) // 10) :]
        final = sum(tail) / len(tail)
        if final > EXPLODED_END * limit:
            return f"explodes on {task.name}: it ends at {final / limit:.3g} times its first loss"
        return final


def _candidates(hall: HallOfFame, top: int) -> list[Entry]:
    if not hall.entries:
        raise DistillationError("the hall of fame is empty: there is nothing to choose from")
    best = sorted(hall.entries, key=lambda entry: (entry.error, entry.complexity))[:top]
    faithful = hall.choose()
    return best if faithful in best else [*best, faithful]


def _best(trials: Sequence[Trial]) -> Trial:
    least = min(trial.score for trial in trials)
    if not math.isfinite(least):
        raise DivergenceError(
            f"none of the {len(trials)} most faithful equations trains: the first one {trials[0].rejected}; "
            "try more of them (top), or distil with other operators"
        )
    close = [trial for trial in trials if trial.score <= least * (1 + AS_GOOD)]
    return min(close, key=lambda trial: (trial.entry.complexity, trial.entry.state_cost, trial.score))


def _reason(best: Trial, trials: Sequence[Trial], tasks: Sequence[Task], seen: int) -> str:
    names = [task.name if index < seen else f"{task.name} (unseen)" for index, task in enumerate(tasks)]
    rejected = sum(trial.rejected is not None for trial in trials)
    text = (
        f"of the {len(trials)} most faithful equations this one trains best: final training loss {best.score:.4g}, "
        f"a geometric mean over {', '.join(names)}; it has R^2 {best.entry.r2:.4f} and {best.entry.complexity} nodes"
    )
    if min(trial.score for trial in trials) < best.score:
        text += f", and the least loss is less than {AS_GOOD:.0%} lower"
    return f"{text}; {rejected} diverged or exploded" if rejected else text
