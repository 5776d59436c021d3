"""``metrics.jsonl``: one JSON object a line, cut back on resume to what the checkpoint knows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedform.errors import CheckpointError, OutputError


class MetricsLog:
    """Records kept in memory, and in a file if there is one.

    A run that is killed may have written lines that its last checkpoint does not know; when it is resumed those steps
    are done again. So a checkpoint notes the file's length, and resuming cuts the file back to it: no line twice.

    Args:
        path: The file; None keeps records in memory alone.
        length: Bytes of the file to keep; 0 starts it anew.
    """

    def __init__(self, path: Path | None, length: int = 0) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(min(length, self._file.tell()))
            self._file.seek(0, os.SEEK_END)
            self.records = [json.loads(line) for line in path.read_bytes().splitlines()]
        except OSError as error:
            raise _unwritable(path, error) from error
        except ValueError as error:
            raise CheckpointError(f"{path} is not the file that its checkpoint knows; remove it and resume") from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; numbers that are not finite become null."""
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        self.records.append(clean)
        if self.path is not None:
            try:
                self._file.write(json.dumps(clean).encode() + b"\n")
                self._file.flush()
            except OSError as error:
                raise _unwritable(self.path, error) from error

    def sync(self) -> int:
        """Put everything on disk.

        Returns:
            The file's length in bytes; 0 without a file.
        """
        if self.path is None:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self.path is not None:
            self._file.close()


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another --out or free some space")
