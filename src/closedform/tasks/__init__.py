"""Tasks: the problems on which optimizers are meta-trained and compared.

``TASKS`` is the table of all members. A new one is a subclass of ``Task`` in a file of its own, and a line here; the
families on images are each a file with a table, one line a member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from closedform._plugins import member
from closedform.tasks._autoencoder import AUTOENCODERS
from closedform.tasks._base import SPLITS, Batch, Params, Task
from closedform.tasks._burgers import burgers
from closedform.tasks._convnet import CONVNETS
from closedform.tasks._deep_linear import deep_linear
from closedform.tasks._factorisation import factorisation
from closedform.tasks._fine_tuning import FINE_TUNINGS
from closedform.tasks._functions import quadratic, quadratic_10, quadratic_1000, rastrigin, rosenbrock
from closedform.tasks._gru import gru_python
from closedform.tasks._implicit_image import implicit_image
from closedform.tasks._lasso import lasso
from closedform.tasks._logistic import LOGISTIC_REGRESSIONS
from closedform.tasks._lstm import lstm_python
from closedform.tasks._made import from_arrays, from_dataset, from_image_folder, from_module
from closedform.tasks._mlp import MLPS
from closedform.tasks._mobilenet import MOBILENETS
from closedform.tasks._module import ModuleTask
from closedform.tasks._resnet import RESNETS
from closedform.tasks._transformer import transformer_python, transformer_wide_python
from closedform.tasks._vit import VITS

TASKS: dict[str, Callable[..., Task]] = {
    **MLPS,
    **LOGISTIC_REGRESSIONS,
    **AUTOENCODERS,
    **CONVNETS,
    **RESNETS,
    **MOBILENETS,
    **VITS,
    **FINE_TUNINGS,
    "transformer-python": transformer_python,
    "transformer-wide-python": transformer_wide_python,
    "gru-python": gru_python,
    "lstm-python": lstm_python,
    "implicit-image": implicit_image,
    "burgers": burgers,
    "factorisation": factorisation,
    "deep-linear": deep_linear,
    "quadratic": quadratic,
    "quadratic-10": quadratic_10,
    "quadratic-1000": quadratic_1000,
    "lasso": lasso,
    "rosenbrock": rosenbrock,
    "rastrigin": rastrigin,
}

UNSEEN: tuple[str, ...] = (
    "mlp-long-mnist",
    "resnet10-small-fashion-mnist",
    "vit-fashion-mnist",
    "fine-tuning-fashion-mnist",
    "lstm-python",
    "transformer-wide-python",
    "implicit-image",
    "burgers",
    "factorisation",
    "deep-linear",
)
"""Tasks that are kept for judging what was meta-trained: no distribution of tasks may draw them, nor their like in kind
and size."""


def get(name: str, *, data_dir: str | Path | None = None, **options: Any) -> Task:
    """The task of that name, ready to be used: data that it needs are on this machine afterwards, though not yet read.

    For listings, which must not download anything, call the member of ``TASKS`` itself and ask it ``available()``.

    Args:
        name: A name in ``TASKS``, or of a plug-in (entry points ``closedform.tasks``).
        data_dir: The folder of its data files, or one whose sub-folder (``mnist``, ``fashion-mnist``) holds them. By
            default CLOSEDFORM_DATA_DIR, /usr/share/datasets and the download cache are tried, then the network.
        options: The task's own options, such as ``hidden`` and ``batch_size`` of an MLP, or ``condition`` of the
            quadratic.

    Raises:
        UnknownNameError: there is no such task; the message suggests the nearest.
        OptionError: there is no such option, or its value makes no sense.
        DataError: the data are missing and cannot be fetched; the message says how to get them.
    """
    task = member("task", "closedform.tasks", name, TASKS)(data_dir=data_dir, **options)
    task.prepare()
    return task


def as_tasks(given: Task | str | Iterable[Task | str]) -> list[Task]:
    """A task or several, or their names, as a list of tasks.

    Raises:
        UnknownNameError, DataError: as for `get`.
    """
    several = [given] if isinstance(given, (Task, str)) else given
    return [get(task) if isinstance(task, str) else task for task in several]


__all__ = [
    "SPLITS",
    "TASKS",
    "UNSEEN",
    "Batch",
    "ModuleTask",
    "Params",
    "Task",
    "as_tasks",
    "from_arrays",
    "from_dataset",
    "from_image_folder",
    "from_module",
    "get",
]
