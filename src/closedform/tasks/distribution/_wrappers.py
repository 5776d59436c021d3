"""Tasks seen through a change: other scales of the parameters, another start, wrong labels.

Each wraps a task and is one, so that they can be put one on top of the other. They work under ``torch.func.vmap``
wherever the task inside does, and keep its hand-written gradient where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from closedform._options import check_number, check_positive
from closedform.errors import OptionError
from closedform.tasks._base import Batch, Params, Task

T = TypeVar("T", bound="WrappedTask")


class WrappedTask(Task):
    """A task that is another one but for what a subclass changes.

    Args:
        task: The task inside.
        horizon: Steps an episode; None: as the task inside has it.
    """

    def __init__(self, task: Task, horizon: int | None = None) -> None:
        self.inner = task
        self.name = task.name
        self.horizon = horizon or task.horizon
        self.source = task.source
        self.data = task.data
        self.device, self.dtype = task.device, task.dtype

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.inner.shapes

    @property
    def optimum(self) -> float | None:
        return self.inner.optimum

    @property
    def by_hand(self) -> bool:
        return self.inner.by_hand

    def init(self, generator: torch.Generator) -> Params:
        return self.inner.init(generator)

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        return self.inner.batch(split, generator)

    def full(self, split: str) -> Batch:
        return self.inner.full(split)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return self.inner.loss(params, batch)

    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        return self.inner.loss_and_grad(params, batch)

    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        return self.inner.metrics(params, batch)

    def available(self) -> str | None:
        return self.inner.available()

    def prepare(self) -> None:
        self.inner.prepare()

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        moved = super().to(device, dtype)
        moved.inner = self.inner.to(device, dtype)
        return moved


class Reparametrised(WrappedTask):
    """The same problem in other units: f(w) = loss(c * w), a factor c for each parameter tensor.

    It starts at w / c, where its loss is that of the task inside; its gradient is c times the other's.

    Args:
        task: The task inside.
        factors: Name of a parameter tensor -> c; tensors not named keep 1.
        horizon: Steps an episode; None: as the task inside has it.

    Raises:
        OptionError: a factor is not a finite number above 0, or the task has no such parameter tensor.
    """

    def __init__(self, task: Task, factors: Mapping[str, float], horizon: int | None = None) -> None:
        super().__init__(task, horizon)
        for name, factor in factors.items():
            if name not in task.shapes:
                known = ", ".join(task.shapes)
                raise OptionError(f"task {task.name!r} has no parameter tensor {name!r} to rescale; it has {known}")
            check_positive(f"the factor of {name}", factor)
        self.factors = dict(factors)

    def inside(self, params: Params) -> Params:
        """The parameters of the task inside: c * w."""
        return {name: value * self.factors.get(name, 1.0) for name, value in params.items()}

    def outside(self, params: Params) -> Params:
        """The inverse: parameters of the task inside, divided by c."""
        return {name: value / self.factors.get(name, 1.0) for name, value in params.items()}

    def init(self, generator: torch.Generator) -> Params:
        return self.outside(self.inner.init(generator))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return self.inner.loss(self.inside(params), batch)

    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        loss, grads = self.inner.loss_and_grad(self.inside(params), batch)
        return loss, self.inside(grads)

    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        return self.inner.metrics(self.inside(params), batch)


class ScaledStart(WrappedTask):
    """The same problem from weights of another size; vectors (biases, scales and shifts) start as they did.

    Args:
        task: The task inside.
        gain: What initial weights are multiplied by.
        std: Draw all of them from N(0, std^2) instead, as Zheng et al. 2022 do with 0.01; None: as the task does.

    Raises:
        OptionError: ``gain`` or ``std`` is no positive number.
    """

    def __init__(self, task: Task, gain: float = 1.0, std: float | None = None) -> None:
        super().__init__(task)
        check_positive("gain", gain)
        if std is not None:
            check_positive("std", std)
        self.gain, self.std = gain, std

    def init(self, generator: torch.Generator) -> Params:
        return {name: self._scaled(value, generator) for name, value in self.inner.init(generator).items()}

    def _scaled(self, value: Tensor, generator: torch.Generator) -> Tensor:
        if value.dim() < 2:
            return value
        drawn = value if self.std is None else self.std * self._normal(tuple(value.shape), generator)
        return self.gain * drawn


class NoisyLabels(WrappedTask):
    """A classification task of whose minibatches a share of the labels is drawn at random; ``full`` stays as it is.

    Args:
        task: The task inside; the last tensor of its batches holds the labels, int64.
        classes: The number of classes.
        share: The probability that a label is drawn anew, from all classes alike.

    Raises:
        OptionError: the share is not a number from 0 to 1.
    """

    def __init__(self, task: Task, classes: int, share: float) -> None:
        super().__init__(task)
        check_number("share of random labels", share, least=0)
        if share > 1:
            raise OptionError(f"share of random labels must be from 0 to 1, not {share!r}")
        self.classes, self.share = classes, share

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        *inputs, labels = self.inner.batch(split, generator)
        device = generator.device
        replaced = torch.rand(labels.shape, generator=generator, device=device) < self.share
        others = torch.randint(self.classes, labels.shape, generator=generator, device=device)
        return (*inputs, torch.where(replaced.to(labels.device), others.to(labels.device), labels))
