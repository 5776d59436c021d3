"""Meta-training's records for TensorBoard; an extra, loaded when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from closedform._progress import OnRecord
from closedform.errors import OptionError, OutputError

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
