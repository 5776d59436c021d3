"""Tuning: which equation to tune, and its constants, by where whole episodes end.

Fidelity to the network is a proxy. What a rule is for is training, and tuning changes its constants anyway; so several
sizes are tuned briefly and alike, and the best of them in full. By where whole episodes end, since gradients through
windows see little of that: with them, tuning once made a rule seven times worse (docs/experiments.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from closedform._progress import shown
from closedform.errors import DivergenceError
from closedform.meta_training import EvolveConfig, evolve
from closedform.pipeline._forms import DISTILLED, SCHEDULED, TUNED, Candidate
from closedform.pipeline._listener import Listener
from closedform.rules import Rule
from closedform.tasks import Task


@dataclass(frozen=True)
class Tuned:
    """A candidate once tuned.

    Attributes:
        candidate: The equation.
        rule: Its rule, with a schedule, tuned.
        folder: Where that was done.
        score: On fresh episodes, beside tuned AdamW (see `Reference`): smaller is better; infinite if not finite.
    """

    candidate: Candidate
    rule: Rule
    folder: Path
    score: float

    @property
    def forms(self) -> dict[str, Rule]:
        """The forms in which it could be handed over."""
        candidate = self.candidate
        return {DISTILLED: candidate.distilled, SCHEDULED: candidate.scheduled, TUNED: self.rule}


def tune_candidates(
    found: Sequence[Candidate],
    task: Task,
    brief: EvolveConfig,
    full: EvolveConfig,
    out: Path,
    *,
    resume: bool,
    listener: Listener,
) -> list[Tuned]:
    """Tune each candidate briefly, and go on with the best of them, each in a folder of its own.

    Returns:
        All of them, in the order given; the best is tuned in full.
    """
    total = len(found) * brief.generations + full.generations

    def tune(candidate: Candidate, start: Rule, config: EvolveConfig, folder: Path, done: int) -> Tuned:
        def progress(here: int, _: int, text: str) -> None:
            listener.progress(done + here, total, text)

        try:
            rule = evolve(start, [task], [task], config=config, out=folder, resume=resume, progress=progress)
        except DivergenceError:
            return Tuned(candidate, start, folder, math.inf)
        score = rule.provenance["evolution"]["validation_score"]
        return Tuned(candidate, rule, folder, math.inf if score is None else score)

    tuned = []
    for index, candidate in enumerate(found):
        folder = out / f"candidate_{index + 1}"
        tuned.append(tune(candidate, candidate.scheduled, brief, folder, index * brief.generations))
        entry = candidate.entry
        listener.result(f"{entry.complexity} nodes, R^2 {entry.r2:.4f}: score {shown(tuned[-1].score)} once tuned")
    best = min(range(len(tuned)), key=lambda index: tuned[index].score)
    in_full = tune(found[best], tuned[best].rule, full, out / "chosen", len(found) * brief.generations)
    listener.result(f"{found[best].entry.complexity} nodes: score {shown(in_full.score)} once tuned in full")
    return [in_full if index == best else one for index, one in enumerate(tuned)]


def with_reason(rule: Rule, reason: Mapping[str, Any]) -> Rule:
    """The rule with a note in its provenance on why it was chosen."""
    return replace(rule, provenance={**rule.provenance, "chosen": dict(reason)})
