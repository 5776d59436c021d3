"""A task seen as a function of one flat vector, or of several side by side: what an optimizer is run on.

    Problem        one optimizee, w [N], whose batches one generator draws
    ProblemBatch   K optimizees of one task, w [K, N], each with a generator, and so data, of its own

Both run the same loop (``_unroll.py``). Gradients come without a graph, so an optimizer that reads them has *detached
inputs*; ``differentiable()`` gives the twin whose gradients carry one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from closedform.tasks import Batch, Task

Draws = TypeVar("Draws")
"""What draws starting points and batches: a generator, or one for each optimizee."""


class AnyProblem(ABC, Generic[Draws]):
    """f(w) = loss(c * w): a task with its parameters end to end, each perhaps multiplied by a number of its own.

    Multiplying by c is RNNprop's random scaling: it leaves the starting point's network as it is, and makes gradients
    and distances differ between parameters, so that an optimizer cannot rely on their size (Lv et al. 2017, section
    4.2).

    Args:
        task: The task.
        split: Where batches are drawn from.
        scale: c, of the shape of w; None for 1.

    Raises:
        OptionError: the task holds a module with layers that are no pure functions; the message names them.
    """

    _axes: tuple[int, ...]
    """Axes of w before the last, each with the axis of a batch that goes with it."""

    def __init__(self, task: Task, split: str = "train", scale: Tensor | None = None) -> None:
        task.check_pure()
        self.task = task
        self.split = split
        self.scale = scale
        self.flat = FlatParams(task.shapes)
        self._by_hand = task.by_hand

    @abstractmethod
    def start(self, generator: Draws) -> Tensor:
        """Draw a starting point, w."""

    @abstractmethod
    def draw(self, generator: Draws) -> Batch:
        """Draw a batch."""

    def loss_and_grad(self, w: Tensor, generator: Draws) -> tuple[Tensor, Tensor]:
        """The loss of each optimizee on a fresh batch, and its gradient, in the shape of w; without a graph."""
        return self.evaluate(w, self.draw(generator))

    def evaluate(self, w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same on a given batch, from which every row of w takes its part; w may have more axes in front."""
        if self._by_hand:
            losses, gradient = self._mapped(self._flat_loss_and_grad, self._scaled(w.detach()), batch)
            return losses, gradient if self.scale is None else gradient * self.scale
        losses, gradient = self._evaluate_by_autograd(w.detach().requires_grad_(), batch, create_graph=False)
        return losses.detach(), gradient

    def advance(self, w: Tensor, update: Tensor) -> Tensor:
        """The parameters after an update."""
        return w + update.detach()

    @abstractmethod
    def differentiable(self) -> AnyProblem[Draws]:
        """The same with everything attached to one graph: second derivatives of the task are included."""

    def _evaluate_by_autograd(self, w: Tensor, batch: Batch, create_graph: bool) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            losses = self._mapped(self._flat_loss, self._scaled(w), batch)
            (gradient,) = torch.autograd.grad(losses.sum(), w, create_graph=create_graph)
        return losses, gradient

    def _mapped(self, function: Any, w: Tensor, batch: Batch) -> Any:
        """``function`` (w [N], batch) over all other axes of w; those that the batch has not share it."""
        in_front = w.dim() - 1 - len(self._axes)
        axes: list[int | None] = [*[None] * in_front, *self._axes]
        for axis in reversed(axes):
            function = vmap(function, in_dims=(0, axis), randomness="different")  # dropout draws for each
        return function(w, batch)

    def _flat_loss(self, w: Tensor, batch: Batch) -> Tensor:
        return self.task.loss(self.flat.unflatten(w), batch)

    def _flat_loss_and_grad(self, w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, grads = self.task.loss_and_grad(self.flat.unflatten(w), batch)
        return loss, self.flat.flatten(grads)

    def _scaled(self, w: Tensor) -> Tensor:
        return w if self.scale is None else w * self.scale


class Problem(AnyProblem[torch.Generator]):
    """One optimizee, w [N]."""

    _axes = ()

    def start(self, generator: torch.Generator) -> Tensor:
        """Draw a starting point, [N]."""
        w = self.flat.flatten(self.task.init(generator))
        return w if self.scale is None else w / self.scale

    def draw(self, generator: torch.Generator) -> Batch:
        return self.task.batch(self.split, generator)

    def differentiable(self) -> Problem:
        return DifferentiableProblem(self.task, self.split, self.scale)


class ProblemBatch(AnyProblem[tuple[torch.Generator, ...]]):
    """K optimizees of one task side by side, w [K, N]: what each draws is what a `Problem` would draw.

    A task's own ``loss_and_grad``, where it has one, must work under ``torch.func.vmap``, as every ``loss`` does.
    """

    _axes = (0,)

    def start(self, generator: Sequence[torch.Generator]) -> Tensor:
        """Draw starting points, [K, N]."""
        w = torch.stack([self.flat.flatten(self.task.init(one)) for one in generator])
        return w if self.scale is None else w / self.scale

    def draw(self, generator: Sequence[torch.Generator]) -> Batch:
        batches = [self.task.batch(self.split, one) for one in generator]
        return tuple(torch.stack(parts) for parts in zip(*batches, strict=True))

    def differentiable(self) -> ProblemBatch:
        return DifferentiableProblemBatch(self.task, self.split, self.scale)


class _Attached(AnyProblem[Draws]):
    """Losses and gradients differentiable in w."""

    def evaluate(self, w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        point = w if w.requires_grad else w.detach().requires_grad_()
        return self._evaluate_by_autograd(point, batch, create_graph=True)

    def advance(self, w: Tensor, update: Tensor) -> Tensor:
        return w + update


class DifferentiableProblem(_Attached[torch.Generator], Problem):
    """A `Problem` with everything attached to one graph."""


class DifferentiableProblemBatch(_Attached[tuple[torch.Generator, ...]], ProblemBatch):
    """A `ProblemBatch` with everything attached to one graph."""


@dataclass(frozen=True)
class FlatParams:
    """How named parameter tensors lie end to end in one vector.

    Attributes:
        shapes: Name -> shape, in order.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of elements of each tensor, in order."""
        return tuple(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """One vector, [N], of the tensors in order; a copy."""
        return torch.cat([params[name].reshape(-1) for name in self.shapes])

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """The tensors in order, as views of ``w``, [N]."""
        parts = w.split(list(self.sizes))
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
