"""Finished runs, one JSON line each in ``runs.jsonl``, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from closedform._document import Malformed, Name, parse_json, read
from closedform._files import append_text, finite, read_text, write_text
from closedform.errors import CheckpointError
from closedform.evaluation._episode import Record, Spec

MAX_BYTES = 2**28
_FIELDS = tuple(entry.name for entry in fields(Record))


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
        text = read_text(path, what="finished runs", limit=MAX_BYTES) if resume and path.exists() else ""
        whole, _, cut_short = text.rpartition("\n")
        for number, line in enumerate(whole.split("\n") if whole else [], start=1):
            key, record = _parse(line, path, number)
            self._records[key] = record
        if cut_short or not text:
            write_text(path, whole + "\n" * bool(whole))

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
