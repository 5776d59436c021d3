"""Restarts: the same distillation with several seeds, side by side, merged into one hall of fame.

All runs hold out the same episodes, so that their errors compare. joblib runs them, by default in processes of this
machine; inside ``joblib.parallel_config(backend=...)`` on whatever the user has set up. An interrupt from the keyboard
reaches the runs through a file: each ends with its best so far, as a single distillation does.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from closedform.distillation._config import DistillConfig
from closedform.distillation._front import least_error, non_dominated
from closedform.distillation._outcome import Outcome, Told

Once: TypeAlias = Callable[[DistillConfig, Told], Outcome]


def restarted(once: Once, config: DistillConfig, told: Told) -> Outcome:
    """Search ``config.restarts`` times, with the seeds ``config.seed``, ``config.seed + 1``, ...

    Args:
        once: Searches once; it must be picklable.
        config: Of all.
        told: Called when a run ends, in the order of the seeds, with the runs done and the best equation so far.

    Returns:
        One outcome; it depends on the seeds alone, not on the number of processes.
    """
    import joblib

    start = time.monotonic()
    workers = min(config.restarts, joblib.effective_n_jobs(-1))
    runs = [
        replace(
            config,
            restarts=1,
            seed=config.seed + index,
            split_seed=config.holds_out_by,
            threads=max(1, config.threads // workers),
        )
        for index in range(config.restarts)
    ]
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="closedform-") as folder, _interrupts_noted(Path(folder) / "stop") as stop:
        jobs = (joblib.delayed(_run)(once, run, stop) for run in runs)
        for outcome in joblib.Parallel(n_jobs=workers, return_as="generator")(jobs):
            found.append(outcome)
            if told.listens and (entries := merged(found).entries):
                best = least_error(entries)
                record = {
                    "stage": f"restart {len(found)} of {config.restarts}",
                    "generation": len(found) * config.generations,
                    "seconds": time.monotonic() - start,
                    "error": best.train_error,
                    "equation": best.equation,
                }
                told(len(found), config.restarts, record)
    whole = merged(found)
    further = {
        "restarts": len(found),
        "seeds": [run.seed for run in runs],
        "seconds": round(time.monotonic() - start, 2),
    }
    return Outcome(whole.entries, {**whole.provenance, **further})


def merged(found: Sequence[Outcome]) -> Outcome:
    """The front of several outcomes of one search; the provenance is the first one's, with the notes of all."""
    first = found[0].provenance
    entries = non_dominated((entry for one in found for entry in one.entries), first["exact"])
    notes = dict.fromkeys(note for one in found for note in one.provenance["notes"])
    interrupted = any(one.provenance["interrupted"] for one in found)
    return Outcome(entries, {**first, "notes": list(notes), "interrupted": interrupted})


def _run(once: Once, config: DistillConfig, stop: Path) -> Outcome:
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts the whole group; the file tells us

    def look(*_: object) -> None:
        if stop.exists():
            raise KeyboardInterrupt

    return once(config, Told(progress=look))


@contextmanager
def _interrupts_noted(stop: Path) -> Iterator[Path]:
    """While the block runs the first interrupt writes the file ``stop``; a second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
