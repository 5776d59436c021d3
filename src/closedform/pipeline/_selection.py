"""Which equation to keep: tune several sizes, keep the one that trains best afterwards.

Fidelity to the network is a proxy. What a rule is for is training, and tuning changes its constants anyway; so the
front's candidates are tuned alike and compared by validation loss on the meta-training half of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from closedform._files import write_text
from closedform.distillation import Entry, HallOfFame
from closedform.errors import DivergenceError
from closedform.meta_training import MetaTrainConfig, TruncatedBPTT, meta_tune
from closedform.pipeline._config import RunConfig
from closedform.pipeline._listener import Listener, meta_step, shown
from closedform.rules import Rule
from closedform.tasks import Task


@dataclass(frozen=True)
class Tuned:
    """A candidate.

    Attributes:
        entry: Its place in the hall of fame.
        after: Its rule once tuned.
        folder: Where its tuning was done.
        loss: Validation loss once tuned; infinite if it was never finite.
    """

    entry: Entry
    after: Rule
    folder: Path
    loss: float

    @property
    def before(self) -> Rule:
        """Its rule before tuning."""
        return self.entry.rule


def candidates(hall: HallOfFame, sizes: Sequence[int]) -> list[Entry]:
    """The equations worth tuning: the one chosen by fidelity, and the most faithful of at most each size."""
    chosen = [hall.choose()]
    for size in sizes:
        small = [entry for entry in hall.entries if entry.complexity <= size]
        if small:
            chosen.append(min(small, key=lambda entry: (entry.error, entry.complexity)))
    return list({entry.equation: entry for entry in chosen}.values())


def _why(best: Tuned, found: Sequence[Tuned]) -> dict[str, Any]:
    """What the rule's provenance says about the choice."""
    outcome = f"validation loss {best.loss:.4g}" if math.isfinite(best.loss) else "none of them is finite"
    return {
        "by": "validation loss after brief tuning",
        "reason": f"of {len(found)} equations this one trains best once tuned briefly: {outcome}",
        "candidates": [
            {
                "equation": tuned.entry.equation,
                "r2": tuned.entry.r2,
                "complexity": tuned.entry.complexity,
                "state_cost": tuned.entry.state_cost,
                "loss": tuned.loss if math.isfinite(tuned.loss) else None,
            }
            for tuned in found
        ],
    }


def tune_candidates(
    entries: Sequence[Entry], task: Task, config: RunConfig, out: Path, *, resume: bool, listener: Listener
) -> Tuned:
    """Tune each candidate briefly and the best of them in full, each in a folder of its own.

    Returns:
        The best, tuned in full. The reason for the choice is in its rule's provenance; the ``metrics.jsonl`` of its
        tuning is copied to ``out``.
    """
    brief, full = config.screen, config.tune
    total = len(entries) * brief.steps + full.steps

    def tune(entry: Entry, rule: Rule, options: MetaTrainConfig, folder: Path, done: int) -> Tuned:
        try:
            after = meta_tune(
                rule,
                [task],
                estimator=TruncatedBPTT(config.tune_unroll),
                config=options,
                out=folder,
                resume=resume,
                progress=partial(meta_step, listener, total=total, done=done),
            )
        except DivergenceError:
            return Tuned(entry, rule, folder, math.inf)
        loss = after.provenance["meta_tuning"][-1]["validation"]["after"]
        return Tuned(entry, after, folder, math.inf if loss is None else loss)

    found = []
    for index, entry in enumerate(entries):
        found.append(tune(entry, entry.rule, brief, out / f"candidate_{index + 1}", index * brief.steps))
        listener.result(f"{entry.complexity} nodes, R^2 {entry.r2:.4f}: validation {shown(found[-1].loss)} once tuned")
    best = min(found, key=lambda tuned: tuned.loss)
    rule = replace(best.after, provenance={**best.after.provenance, "chosen": _why(best, found)})
    best = replace(best, after=rule)
    in_full = tune(best.entry, rule, full, out / "chosen", len(entries) * brief.steps)
    best = in_full if math.isfinite(in_full.loss) else best
    listener.result(f"{best.entry.complexity} nodes kept: validation {shown(best.loss)} once tuned in full")
    write_text(out / "metrics.jsonl", (best.folder / "metrics.jsonl").read_text(encoding="utf-8"))
    return best
