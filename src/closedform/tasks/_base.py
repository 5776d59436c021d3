"""What a task is: a problem to minimise, with its data, its starting points and its known facts.

A task describes an **optimizee** without owning its parameters: ``init`` draws them, ``loss`` is a pure function of
them, and whoever trains holds them in an ordered dict. So one task serves any number of episodes, side by side too:

    task = tasks.get("mlp-digits")
    generator = torch.Generator().manual_seed(0)
    params = task.init(generator)
    for t in range(task.horizon):
        loss, grads = task.loss_and_grad(params, task.batch("train", generator))
        params = {name: params[name] - 0.1 * grads[name] for name in params}

Splits: ``train`` is the half of the training data that meta-training uses, ``eval`` the half on which optimizees are
trained when optimizers are compared, ``test`` is held out from both. A rule is thus never judged on the data it was
meta-trained on.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from closedform import _options
from closedform._names import lookup
from closedform.errors import DataError, OptionError

Params = dict[str, Tensor]
Batch = tuple[Tensor, ...]
T = TypeVar("T", bound="Task")
D = TypeVar("D")

SPLITS: dict[str, str] = {
    "train": "the half of the training data that meta-training uses",
    "eval": "the half on which optimizees are trained when optimizers are compared",
    "test": "held-out data",
}


class Task(ABC):
    """A problem to minimise.

    Attributes:
        name: Its name in the table of tasks.
        horizon: The default length of an episode, in steps.
        source: Where the problem comes from.
        data: The data it needs, in a word or two.
        device, dtype: Where its data and parameters live, and their floating-point type.
    """

    name: str
    horizon: int
    source: str
    data: str = "none"
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' names and shapes, in order; known without reading any data."""

    @property
    def optimum(self) -> float | None:
        """The smallest loss there is, where it is known."""
        return None

    @property
    def size(self) -> int:
        """The number of scalar parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def by_hand(self) -> bool:
        """Whether ``loss_and_grad`` is written by hand, and so works under ``vmap``, where autograd's does not."""
        return type(self).loss_and_grad is not Task.loss_and_grad

    @abstractmethod
    def init(self, generator: torch.Generator) -> Params:
        """Draw an episode's starting point: leaf tensors of ``shapes``, without grad."""

    @abstractmethod
    def loss(self, params: Params, batch: Batch) -> Tensor:
        """The loss, a scalar. A pure function: works under ``torch.func.grad`` and ``torch.func.vmap``."""

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        """Draw a minibatch of a split, with replacement; ``()`` where the task has no data."""
        lookup("split", split, SPLITS)
        return ()

    def full(self, split: str) -> Batch:
        """A split's whole data (or a stated sample, where they are very many) as one batch; ``()`` without data."""
        lookup("split", split, SPLITS)
        return ()

    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient, neither of them attached to a graph.

        Args:
            params: As ``init`` gives them.
            batch: As ``batch`` or ``full`` gives it.

        Returns:
            The loss, a scalar, and the gradient, in the names and shapes of ``params``.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        with torch.enable_grad():
            loss = self.loss(leaves, batch)
            grads = torch.autograd.grad(loss, list(leaves.values()))
        return loss.detach(), dict(zip(leaves, grads, strict=True))

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        """What to report about an optimizee: ``loss``, and ``accuracy`` (a share from 0 to 1) of a classifier."""
        return {"loss": float(self.loss(params, batch))}

    def available(self) -> str | None:
        """None if the data are on this machine, else one line that says how to get them. Never downloads."""
        return None

    def prepare(self) -> None:
        """Make sure that the data are on this machine, downloading them if need be.

        Raises:
            DataError: they are not, and cannot be fetched; the message says how to get them.
        """
        missing = self.available()
        if missing is not None:
            raise DataError(missing)

    def check_pure(self) -> None:
        """Make sure that no module which the task holds changes when it is called; whoever runs the task asks.

        Raises:
            OptionError: layers of one keep running averages; the message names them and says what to do.
        """
        for module in (value for value in vars(self).values() if isinstance(value, nn.Module)):
            tracking = [
                path or type(layer).__name__
                for path, layer in module.named_modules()
                if isinstance(layer, _NormBase) and layer.training and layer.running_mean is not None
            ]
            if tracking:
                named = ", ".join(tracking[:3]) + (", ..." if tracking[3:] else "")
                raise OptionError(
                    f"task {self.name!r}: a loss must be a pure function, and its module updates running averages in "
                    f"place ({named}): make them with track_running_stats=False, or the task with tasks.ModuleTask"
                )

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        """A copy of this task whose data and parameters live on ``device``, in ``dtype``.

        Raises:
            OptionError: there is no such device here, or ``dtype`` is not a floating-point type.
        """
        moved = copy.copy(self)
        if device is not None:
            moved.device = _usable(device)
        if dtype is not None:
            if not dtype.is_floating_point:
                raise OptionError(f"a task's dtype must be a floating-point type, not {dtype}")
            moved.dtype = dtype
        return moved

    def _normal(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal numbers, drawn in float32 where the generator lives: the same on every device."""
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device, self.dtype)


def with_options(defaults: D, options: Mapping[str, Any], task: str) -> D:
    """A task's options: ``defaults`` with those that a caller gave by name.

    Raises:
        OptionError: the task has no such option; the message suggests the nearest and lists all.
    """
    return _options.with_options(defaults, options, place=f"task {task!r}: ")


def _usable(device: torch.device | str) -> torch.device:
    try:
        return torch.empty((), device=device).device
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError where it was built without CUDA
        raise OptionError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
