"""Many runs: on several processes if asked, and kept as they finish, so that an interrupted evaluation goes on.

The result does not depend on the number of processes: every run uses the same number of torch threads wherever it is.
Contenders and tasks reach a worker once, through a file, since a task that has read its data can be large. Finished
runs are one JSON line each in ``runs.jsonl``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from closedform._document import Malformed, Name, parse_json, read
from closedform._files import append_text, finite, read_lines, write_text
from closedform._progress import Progress
from closedform.errors import CheckpointError
from closedform.evaluation._contenders import Contender
from closedform.evaluation._episode import Record, Spec, run_episode, run_key
from closedform.tasks import Task

_WORTH_A_PROCESS = 4  # runs; starting a worker takes a second or two
MAX_BYTES = 2**28
_FIELDS = tuple(entry.name for entry in fields(Record))


@dataclass(frozen=True)
class Field:
    """All that is compared, on all tasks."""

    contenders: tuple[Contender, ...]
    tasks: tuple[Task, ...]

    def key(self, spec: Spec) -> str:
        """The run's key in the store."""
        return run_key(spec, self.contenders[spec.contender], self.tasks[spec.task])

    def run(self, spec: Spec) -> Record:
        """Run one episode."""
        return run_episode(spec, self.contenders[spec.contender], self.tasks[spec.task])


class RunStore:
    """Records by key, kept in memory and, given a path, appended to a file as they arrive.

    Args:
        path: The file; None keeps records in memory only.
        resume: Use what the file holds; otherwise it starts empty.

    Raises:
        CheckpointError: the file is damaged, other than by a last line cut short.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path | None, *, resume: bool = True) -> None:
        self._path = path
        self._records: dict[str, Record] = {}
        if path is None:
            return
        known = resume and path.exists()
        lines, cut_short = read_lines(path, what="finished runs", limit=MAX_BYTES) if known else ([], False)
        for number, line in enumerate(lines, start=1):
            key, record = _parse(line, path, number)
            self._records[key] = record
        if cut_short or not lines:
            write_text(path, "".join(line + "\n" for line in lines))

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def get(self, key: str, spec: Spec) -> Record:
        """The record of a run that is there.

        Raises:
            CheckpointError: it cannot be what that run gave.
        """
        record = self._records[key]
        if not record.fits(spec):
            raise CheckpointError(
                f"{self._path}: the run {key} has another curve, or more steps, than it should; "
                "move the file away to start anew"
            )
        return record

    def add(self, key: str, record: Record, notes: dict[str, Any]) -> None:
        """Keep a record; ``notes`` (names, learning rate, seed) go into its line for people to read."""
        self._records[key] = record
        if self._path is not None:
            append_text(self._path, json.dumps(finite({"key": key, **notes, **asdict(record)})) + "\n")


def _parse(line: str, path: Path, number: int) -> tuple[str, Record]:
    try:
        row = parse_json(line)
        found = {name: row[name] for name in _FIELDS if name in row} if isinstance(row, dict) else row
        record: Record = read(found, Record)
        return read(row.get("key"), Name, "key"), record
    except Malformed as error:
        raise CheckpointError(f"{path}, line {number} is damaged: {error}; move the file away to start anew") from error


class Executor:
    """Runs specs that the store does not hold yet.

    Args:
        field: Contenders and tasks.
        store: Where finished runs are kept.
        workers: Processes; 1 runs in this one.
        threads: Torch threads of every run.
        progress: Called after every run.
    """

    def __init__(
        self, field: Field, store: RunStore, workers: int, threads: int, progress: Progress | None = None
    ) -> None:
        self._field, self._store = field, store
        self._workers, self._threads = workers, threads
        self._progress = progress
        self._done = self._total = 0

    def run(self, specs: Sequence[Spec]) -> list[Record]:
        """The records of ``specs``, in their order."""
        keys = [self._field.key(spec) for spec in specs]
        pending = {key: spec for key, spec in zip(keys, specs, strict=True) if key not in self._store}
        self._done += len(set(keys)) - len(pending)
        self._total += len(set(keys))
        for key, record in self._results(pending):
            spec = pending[key]
            notes = self._notes(spec)
            self._store.add(key, record, notes)
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total, f"{notes['optimizer']} on {notes['task']}")
        return [self._store.get(key, spec) for key, spec in zip(keys, specs, strict=True)]

    def _notes(self, spec: Spec) -> dict[str, Any]:
        contender = self._field.contenders[spec.contender]
        return {
            "optimizer": contender.name,
            "task": self._field.tasks[spec.task].name,
            "lr": contender.lr if spec.lr is None else spec.lr,
            "stream": spec.stream,
            "seed": spec.seed,
            "steps": spec.steps,
        }

    def _results(self, pending: dict[str, Spec]) -> Iterator[tuple[str, Record]]:
        if self._workers == 1 or len(pending) < _WORTH_A_PROCESS:
            with torch_threads(self._threads):
                for key, spec in pending.items():
                    yield key, self._field.run(spec)
            return
        yield from self._parallel(pending)

    def _parallel(self, pending: dict[str, Spec]) -> Iterator[tuple[str, Record]]:
        import joblib

        with tempfile.TemporaryDirectory(prefix="closedform-") as folder:
            path = Path(folder) / "field"
            joblib.dump(joblib.wrap_non_picklable_objects(self._field, keep_wrapper=False), path)
            pool = joblib.Parallel(n_jobs=self._workers, return_as="generator_unordered", batch_size=1)
            jobs = (joblib.delayed(_work)(str(path), self._threads, key, spec) for key, spec in pending.items())
            yield from pool(jobs)


def default_workers(tasks: Sequence[Task]) -> int:
    """Processes to use if nobody says: one a core, at most 8; one alone where an accelerator does the work."""
    if any(task.device.type != "cpu" for task in tasks):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads while the block runs: small networks are slower with more than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _load(path: str) -> Field:
    import joblib

    field: Field = joblib.load(path)
    return field


def _work(path: str, threads: int, key: str, spec: Spec) -> tuple[str, Record]:
    with torch_threads(threads):
        return key, _load(path).run(spec)
