"""Write files so that a crash or a full disk never damages what was there before."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from closedform._document import Malformed, parse_json
from closedform.errors import CheckpointError, OutputError

MAX_JSON = 16 * 2**20
_TEMPORARY = re.compile(r"\..+\.closedform-(\d+)-[^.]+\.tmp", re.DOTALL)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary sibling of ``path``, flush it to disk, then rename it over ``path``.

    What killed runs left behind in the folder, of such siblings, is removed.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or ``path`` is a device; it is as it was before.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise OutputError(f"cannot write {path}: it is a device or pipe, whose place a file would take; choose a file")
    temporary: Path | None = None
    handle = -1
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        prefix = f".{target.name[:160]}.closedform-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".tmp")
        fcntl.flock(handle, fcntl.LOCK_EX)  # for as long as it is held, the file is no leftover
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


def unwritable(path: Path, error: OSError) -> OutputError:
    """The one message of everything that cannot be written."""
    if isinstance(error, OutputError):
        return error
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; choose another --out or free some space")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed run of ours left in a folder: their process is gone, and nobody locks them.

    A process of another container has another number here, and perhaps none: the lock tells that it is alive.
    """
    with os.scandir(folder) as entries:
        ours = [(entry, _TEMPORARY.fullmatch(entry.name)) for entry in entries]
    for entry, match in ours:
        if match and not _alive(int(match[1])) and entry.is_file(follow_symlinks=False) and not _locked(entry.path):
            Path(entry.path).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to a file's end; a kill may cut it short, but leaves what was there.

    Raises:
        OutputError: it cannot be written; the file ends where it did.
    """
    before: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            before = file.tell()
            file.write(text.encode())
    except OSError as error:
        if before is not None:  # a full disk takes a part
            with contextlib.suppress(OSError):
                os.truncate(path, before)
        raise unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN and infinity become null, since JSON has neither."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def read_text(path: Path, *, what: str, limit: int = MAX_JSON) -> str:
    """Read a UTF-8 file of at most ``limit`` bytes.

    Raises:
        CheckpointError: the file is missing, too large or no text; the message names ``what`` it should be.
    """
    try:
        if (size := path.stat().st_size) > limit:
            raise CheckpointError(f"{what} {path} has {size} bytes; the limit is {limit}: is it the right file?")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{what} {path} is no UTF-8 text ({error.reason}); it may be damaged") from error


def read_lines(path: Path, *, what: str, limit: int = MAX_JSON) -> tuple[list[str], bool]:
    """The whole lines of a UTF-8 file to which lines are appended, and whether a kill cut a last one short.

    Raises:
        CheckpointError: as for `read_text`.
    """
    whole, _, cut_short = read_text(path, what=what, limit=limit).rpartition("\n")
    return whole.split("\n") if whole else [], bool(cut_short)


def read_json(path: Path, *, what: str, limit: int = MAX_JSON) -> Any:
    """Read a JSON file of at most ``limit`` bytes.

    Raises:
        CheckpointError: the file is missing, too large or not JSON; the message names ``what`` it should be.
    """
    text = read_text(path, what=what, limit=limit)
    try:
        return parse_json(text)
    except Malformed as error:
        raise CheckpointError(f"{what} {path} is not valid JSON ({error}); it may be truncated") from error


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _locked(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


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
