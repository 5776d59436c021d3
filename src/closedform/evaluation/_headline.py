"""What the numbers say: the result in a sentence, and which tuned baselines an optimizer beats, one by one.

Sentences are made from the numbers: they say so when a rule does not beat the baselines.
"""

from __future__ import annotations

from dataclasses import dataclass

from closedform.evaluation._entries import Difference, EvaluationEntry
from closedform.evaluation._evaluation import Evaluation
from closedform.evaluation._numbers import interval, number, percent, percent_interval
from closedform.evaluation._statistics import paired_difference


@dataclass(frozen=True)
class Headline:
    """A sentence, and whether it reports a win over the best tuned baseline beyond the interval."""

    text: str
    won: bool


def headline(evaluation: Evaluation, name: str | None = None) -> tuple[Headline, ...]:
    """One sentence a task about one optimizer.

    Args:
        evaluation: The evaluation.
        name: The optimizer; by default the last one that is not a baseline.

    Raises:
        UnknownNameError: it was not evaluated.
    """
    if name is None:
        learned = [entry.name for entry in evaluation.entries if entry.kind != "baseline"]
        if not learned:
            return ()
        name = learned[-1]
    return tuple(_sentence(evaluation, evaluation.get(task, name)) for task in evaluation.tasks)


def _sentence(evaluation: Evaluation, entry: EvaluationEntry) -> Headline:
    found, best = entry.final_loss, evaluation.best_baseline(entry.task)
    seeds = f"{found.count} seed{'s' * (found.count != 1)}"
    who = f"the {entry.label}" if " " in entry.label else entry.label
    if found.mean is None:
        return Headline(f"On {entry.task} {who} diverged with all {seeds}.", False)
    start = f"On {entry.task} {who} reaches a final loss of {interval(found)} ({seeds})"
    if best is None or best is entry or entry.difference is None:
        return Headline(f"{start}; no tuned baseline was run to compare it with.", False)
    if best.final_loss.mean is None:
        return Headline(f"{start}; every tuned baseline diverged with all seeds.", False)
    other = f"the best tuned baseline ({best.label}, {interval(best.final_loss)})"
    told, won = _against(entry.difference, other)
    if found.diverged:
        told, won = f"{told} But it diverged with {found.diverged} of {seeds}.", False
    return Headline(f"{start}, {told}{_accuracy(entry, best)}", won)


def _against(difference: Difference, other: str) -> tuple[str, bool]:
    loss = difference.loss
    size = _size(difference.relative, other)
    if loss.low is None or loss.high is None:
        return f"{size}; one seed cannot tell that from chance.", False
    paired = f"seed by seed {number(loss.mean, 2)} [{number(loss.low, 2)}, {number(loss.high, 2)}]"
    if loss.high < 0:
        return f"{size}: it beats every tuned baseline (difference {paired}).", True
    if loss.low > 0:
        return f"{size}: it does not beat the baselines (difference {paired}).", False
    return f"{size}: the difference, {paired}, cannot be told from chance.", False


def _size(relative: float | None, other: str) -> str:
    if relative is None:
        return f"against {other}"
    if relative >= 1:
        return f"{relative + 1:.3g} times that of {other}"
    return f"{percent(abs(relative), 0)} {'below' if relative < 0 else 'above'} {other}"


def _accuracy(entry: EvaluationEntry, best: EvaluationEntry) -> str:
    ours, theirs = entry.test.get("accuracy"), best.test.get("accuracy")
    if ours is None or theirs is None:
        return ""
    return f" Test accuracy is {percent_interval(ours)}, that of {best.label} {percent_interval(theirs)}."


@dataclass(frozen=True)
class Verdict:
    """How an optimizer does against the baselines on one task.

    Attributes:
        beaten: Labels of those whose final loss it is below, seed by seed, beyond the interval; or that diverged.
        unbeaten: The others.
    """

    beaten: tuple[str, ...]
    unbeaten: tuple[str, ...]

    @property
    def won(self) -> bool:
        """Whether it beats all of them, and there are some."""
        return bool(self.beaten) and not self.unbeaten


def verdict(evaluation: Evaluation, task: str, name: str) -> Verdict:
    """Compare an optimizer with each baseline of a task.

    Raises:
        UnknownNameError: it was not evaluated on that task.
    """
    entry = evaluation.get(task, name)
    others = [other for other in evaluation.on(task) if other.kind == "baseline" and other.name != name]
    beaten = [_beats(entry, other, evaluation.protocol.confidence) for other in others]
    pairs = list(zip(others, beaten, strict=True))
    return Verdict(*(tuple(other.label for other, beats in pairs if beats is side) for side in (True, False)))


def _beats(entry: EvaluationEntry, other: EvaluationEntry, confidence: float) -> bool:
    if entry.final_loss.diverged:
        return False
    if other.final_loss.mean is None:
        return True
    loss = paired_difference(entry.final_loss.values, other.final_loss.values, confidence=confidence)
    return loss.high is not None and loss.high < 0
