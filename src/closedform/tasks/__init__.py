"""Tasks: the problems on which optimizers are meta-trained and compared.

``TASKS`` is the table of all members. A new one is a subclass of ``Task`` in a file of its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from closedform._names import lookup
from closedform.tasks._base import SPLITS, Batch, Params, Task
from closedform.tasks._functions import quadratic, rosenbrock
from closedform.tasks._mlp import mlp_digits, mlp_fashion_mnist, mlp_mnist

TASKS: dict[str, Callable[..., Task]] = {
    "mlp-digits": mlp_digits,
    "mlp-mnist": mlp_mnist,
    "mlp-fashion-mnist": mlp_fashion_mnist,
    "quadratic": quadratic,
    "rosenbrock": rosenbrock,
}


def get(name: str, *, data_dir: str | Path | None = None, **options: Any) -> Task:
    """The task of that name, ready to be used: data that it needs are on this machine afterwards, though not yet read.

    For listings, which must not download anything, call the member of ``TASKS`` itself and ask it ``available()``.

    Args:
        name: A name in ``TASKS``.
        data_dir: The folder of its data files, or one whose sub-folder (``mnist``, ``fashion-mnist``) holds them. By
            default CLOSEDFORM_DATA_DIR, /usr/share/datasets and the download cache are tried, then the network.
        options: The task's own options, such as ``hidden`` and ``batch_size`` of an MLP, or ``condition`` of the
            quadratic.

    Raises:
        UnknownNameError: there is no such task; the message suggests the nearest.
        OptionError: there is no such option, or its value makes no sense.
        DataError: the data are missing and cannot be fetched; the message says how to get them.
    """
    task = lookup("task", name, TASKS)(data_dir=data_dir, **options)
    task.prepare()
    return task


__all__ = ["SPLITS", "TASKS", "Batch", "Params", "Task", "get"]
