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

from closedform._files import write_text
from closedform.distillation import Entry, HallOfFame
from closedform.meta_training import TruncatedBPTT, meta_tune
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


def tune_candidates(
    entries: Sequence[Entry], task: Task, config: RunConfig, out: Path, *, resume: bool, listener: Listener
) -> Tuned:
    """Tune each candidate in a folder of its own, and return the one of least validation loss.

    Its ``metrics.jsonl`` is copied to ``out``, and the reason goes into its provenance.
    """
    steps = config.tune.steps
    found = []
    for index, entry in enumerate(entries):
        folder = out / f"{index + 1}_of_{len(entries)}"
        rule = meta_tune(
            entry.rule,
            [task],
            estimator=TruncatedBPTT(config.tune_unroll),
            config=config.tune,
            out=folder,
            resume=resume,
            progress=partial(meta_step, listener, total=len(entries) * steps, done=index * steps),
        )
        loss = rule.provenance["meta_tuning"][-1]["validation"]["after"]
        listener.result(f"{entry.complexity} nodes, R^2 {entry.r2:.4f}: validation loss {shown(loss)} once tuned")
        found.append(Tuned(entry, rule, folder, math.inf if loss is None else loss))
    best = min(found, key=lambda tuned: tuned.loss)
    others = ", ".join(f"{tuned.entry.complexity} nodes {tuned.loss:.4g}" for tuned in found)
    reason = f"least validation loss once tuned ({others})"
    write_text(out / "metrics.jsonl", (best.folder / "metrics.jsonl").read_text(encoding="utf-8"))
    return replace(best, after=replace(best.after, provenance={**best.after.provenance, "chosen": reason}))
