"""Whether a task fits in this machine's memory, asked before anything is allocated."""

from __future__ import annotations

from pathlib import Path

from closedform.errors import OptionError
from closedform.tasks import Task

_MEMINFO = Path("/proc/meminfo")


def check_memory(task: Task, buffers: int, copies: int = 1) -> None:
    """Refuse a task of which even the parameters, gradients and optimizer states do not fit.

    Activations and data come on top and are not counted, so that a task that passes may still be too large.

    Args:
        task: The task.
        buffers: States that the optimizer keeps for every parameter.
        copies: Optimizees side by side in this machine's memory.

    Raises:
        OptionError: it does not fit; says how much it needs and how much there is.
    """
    if task.device.type != "cpu":
        return
    need = task.size * task.dtype.itemsize * (2 + buffers) * copies
    there = available_memory()
    if there is not None and need > there:
        beside = f" for {copies} side by side" if copies > 1 else ""
        raise OptionError(
            f"task {task.name!r} does not fit: parameters, gradients and {buffers} states of {task.size:,} numbers "
            f"each take {need / 2**30:.1f} GB at least{beside}, and {there / 2**30:.1f} GB are available; take a "
            "smaller model, or fewer workers"
        )


def available_memory() -> int | None:
    """Bytes that new work may take without swapping (Linux); None where it cannot be told."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
