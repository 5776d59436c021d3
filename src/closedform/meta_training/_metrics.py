"""Meta-training's records: ``metrics.jsonl``, one JSON object a line, cut back on resume; and TensorBoard, an extra."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from closedform._document import Count, Malformed, Many, Name, parse_json, read
from closedform._files import finite, unwritable
from closedform._progress import OnRecord
from closedform.errors import CheckpointError, OptionError, OutputError

MAX_BYTES = 2**28
_Row: TypeAlias = Annotated[Mapping[Name, float | None], Many(50)]


def read_metrics(path: Path, length: int | None = None) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``, each with its ``step``; none if it is not there.

    Args:
        path: The file.
        length: Bytes of it to read; None: all.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
    """
    try:
        if not path.exists():
            return []
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} has more than {MAX_BYTES} bytes: it is no metrics file")
        lines = path.read_bytes()[:length].decode().split("\n")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{path} is no UTF-8 text; remove it and resume") from None
    return [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _record(line: str, place: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = parse_json(line)
        read(record, _Row)
        read(record.get("step"), Count, "step")
    except Malformed as error:
        raise CheckpointError(
            f"{place} is damaged ({error}), or not of the file that its checkpoint knows; remove it and resume"
        ) from None
    return record


class MetricsLog:
    """Records kept in memory, and in a file if there is one.

    A run that is killed may have written lines that its last checkpoint does not know; when it is resumed those steps
    are done again. So a checkpoint notes the file's length, and resuming cuts the file back to it: no line twice.

    Args:
        path: The file; None keeps records in memory alone.
        length: Bytes of the file to keep; 0 starts it anew.

    Raises:
        CheckpointError: what is to be kept is damaged.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path | None, length: int = 0) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        if path is None:
            return
        self.records = read_metrics(path, length) if length else []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(min(length, self._file.tell()))
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise unwritable(path, error) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; numbers that are not finite become null."""
        clean = finite(dict(record))
        self.records.append(clean)
        if self.path is not None:
            with self._said():
                self._file.write(json.dumps(clean).encode() + b"\n")
                self._file.flush()

    def sync(self) -> int:
        """Put everything on disk.

        Returns:
            The file's length in bytes; 0 without a file.

        Raises:
            OutputError: it cannot be put there.
        """
        if self.path is None:
            return 0
        with self._said():
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file, which writes what could not be written before."""
        if self.path is not None:
            with self._said():
                self._file.close()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(Path(str(self.path)), error) from error


_NOT_SCALARS = ("step", "seconds")


@contextmanager
def tensorboard_writer(folder: str | Path) -> Iterator[OnRecord]:
    """What to give `meta_train` as ``on_record``: it writes every number of a record as a scalar of its name.

    They are ``meta_loss``, ``loss``, ``gradient_norm``, ``lr``, ``validation`` and the counters. In a folder where a
    run was stopped and goes on, what the run does again replaces what was there.

    Args:
        folder: Where the event files go; made if needed.

    Raises:
        OptionError: TensorBoard is not installed; the message says how to.
        OutputError: the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        message = "TensorBoard is not installed; install it with: pip install 'closedform[tensorboard]'"
        raise OptionError(message) from None
    writers: list[Any] = []

    def write(record: Mapping[str, Any]) -> None:
        step = int(record["step"])
        if not writers:
            writers.append(_opened(SummaryWriter, folder, step))
        for name, value in record.items():
            if isinstance(value, (int, float)) and name not in _NOT_SCALARS:
                writers[0].add_scalar(name, value, step)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()


def _opened(make: Any, folder: str | Path, step: int) -> Any:
    """A writer that hides what an earlier run wrote from that step on."""
    try:
        return make(str(folder), purge_step=step)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another folder") from error
