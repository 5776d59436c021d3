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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from closedform.distillation._config import DistillConfig
from closedform.distillation._front import non_dominated
from closedform.distillation._hall import HallOfFame
from closedform.trajectories import Trajectories

Distill = Callable[..., HallOfFame]


def restarted(
    distill: Distill,
    trajectories: Trajectories,
    backend: str,
    config: DistillConfig,
    told: Callable[[int, int, Mapping[str, Any]], None],
    name: str | None,
) -> HallOfFame:
    """Distil ``config.restarts`` times, with the seeds ``config.seed``, ``config.seed + 1``, ...

    Args:
        distill: The function that distils once.
        trajectories, backend, config, name: As it takes them.
        told: Called when a run ends, in the order of the seeds, with the runs done and the best equation so far.

    Returns:
        One hall of fame; it depends on the seeds alone, not on the number of processes.
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
    halls: list[HallOfFame] = []
    with tempfile.TemporaryDirectory(prefix="closedform-") as folder, _interrupts_noted(Path(folder) / "stop") as stop:
        jobs = (joblib.delayed(_run)(_Job(distill, trajectories, backend, run, name, stop)) for run in runs)
        for hall in joblib.Parallel(n_jobs=workers, return_as="generator")(jobs):
            halls.append(hall)
            if (found := merged(halls)).entries:
                record = {
                    "stage": f"restart {len(halls)} of {config.restarts}",
                    "generation": len(halls) * config.generations,
                    "seconds": time.monotonic() - start,
                    "error": found.best.train_error,
                    "equation": found.best.equation,
                }
                told(len(halls), config.restarts, record)
    hall = merged(halls)
    further = {
        "restarts": len(halls),
        "seeds": [run.seed for run in runs],
        "seconds": round(time.monotonic() - start, 2),
    }
    return replace(hall, provenance={**hall.provenance, **further})


def merged(halls: list[HallOfFame]) -> HallOfFame:
    """The front of several halls of one recording; the provenance is the first one's, with the notes of all."""
    notes = dict.fromkeys(note for hall in halls for note in hall.provenance.get("notes", ()))
    exact = halls[0].provenance["exact"]
    entries = non_dominated((entry for hall in halls for entry in hall.entries), exact)
    interrupted = any(hall.interrupted for hall in halls)
    return HallOfFame(entries, {**halls[0].provenance, "notes": list(notes), "interrupted": interrupted})


@dataclass(frozen=True)
class _Job:
    distill: Distill
    trajectories: Trajectories
    backend: str
    config: DistillConfig
    name: str | None
    stop: Path


def _run(job: _Job) -> HallOfFame:
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts the whole group; the file tells us

    def look(*_: object) -> None:
        if job.stop.exists():
            raise KeyboardInterrupt

    return job.distill(job.trajectories, job.backend, job.config, look, job.name)


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
