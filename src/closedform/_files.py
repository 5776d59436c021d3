"""Write files so that a crash or a full disk never damages what was there before."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from closedform.errors import CheckpointError, OutputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary sibling of ``path``, flush it to disk, then rename it over ``path``.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or ``path`` is a device; it is as it was before.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise OutputError(f"cannot write {path}: it is a device or pipe, whose place a file would take; choose a file")
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose another --out or free some space") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity become null, since JSON has neither."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def read_json(path: Path, *, what: str, limit: int = 64 * 2**20) -> Any:
    """Read a JSON file of at most ``limit`` bytes.

    Raises:
        CheckpointError: the file is missing, too large or not JSON; the message names ``what`` it should be.
    """
    try:
        if path.stat().st_size > limit:
            raise CheckpointError(f"{what} {path} is larger than {limit} bytes; is it the right file?")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} {path} is not valid JSON ({error}); it may be truncated") from error


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def finite(value: Any) -> Any:
    """The same plain JSON value with NaN and infinity as None."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
