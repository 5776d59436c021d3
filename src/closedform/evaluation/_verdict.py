"""Which tuned baselines an optimizer beats, one by one: what the first line of a report says."""

from __future__ import annotations

from dataclasses import dataclass

from closedform.evaluation._entries import Entry
from closedform.evaluation._evaluation import Evaluation
from closedform.evaluation._statistics import paired_difference


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


def _beats(entry: Entry, other: Entry, confidence: float) -> bool:
    if entry.final_loss.diverged:
        return False
    if other.final_loss.mean is None:
        return True
    loss = paired_difference(entry.final_loss.values, other.final_loss.values, confidence=confidence)
    return loss.high is not None and loss.high < 0
