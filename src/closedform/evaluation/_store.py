"""Finished runs, one JSON line each in ``runs.jsonl``, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from closedform.errors import CheckpointError, OutputError
from closedform.evaluation._episode import Record


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
        text = _read(path) if resume else ""
        whole, _, cut_short = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), start=1):
            key, record = _parse(line, path, number)
            self._records[key] = record
        if cut_short or not text:
            _write(path, whole + "\n" * bool(whole), append=False)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def add(self, key: str, record: Record, notes: dict[str, Any]) -> None:
        """Keep a record; ``notes`` (names, learning rate, seed) go into its line for people to read."""
        self._records[key] = record
        if self._path is not None:
            _write(self._path, json.dumps({"key": key, **notes, **asdict(record)}) + "\n", append=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read finished runs: {path}: {error}; move it away to start anew") from error


def _write(path: Path, text: str, *, append: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {path}: {reason}; choose another folder or free some space") from error


def _parse(line: str, path: Path, number: int) -> tuple[str, Record]:
    try:
        row = json.loads(line)
        fields = {name: row[name] for name in Record.__dataclass_fields__}
        return row["key"], Record(**{**fields, "curve": tuple(fields["curve"])})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}, line {number} is damaged; move the file away to start anew") from error
