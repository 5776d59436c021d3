"""A task seen as a function of one flat vector: what an optimizer is run on."""

from __future__ import annotations

import torch
from torch import Tensor

from closedform.meta_training._flat import FlatParams
from closedform.tasks import Task


class Problem:
    """f(w) = loss(c * w), w [N]: a task with its parameters end to end, each perhaps multiplied by a number of its own.

    Multiplying by c is RNNprop's random scaling: it leaves the starting point's network as it is, and makes gradients
    and distances differ between parameters, so that an optimizer cannot rely on their size (Lv et al. 2017, section
    4.2). Gradients come without a graph; so an optimizer that reads them has *detached inputs*.

    Args:
        task: The task.
        split: Where batches are drawn from.
        scale: c, [N]; None for 1.
    """

    def __init__(self, task: Task, split: str = "train", scale: Tensor | None = None) -> None:
        self.task = task
        self.split = split
        self.scale = scale
        self.flat = FlatParams(task.shapes)

    def start(self, generator: torch.Generator) -> Tensor:
        """Draw a starting point, [N]."""
        w = self.flat.flatten(self.task.init(generator))
        return w if self.scale is None else w / self.scale

    def loss_and_grad(self, w: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss on a fresh batch, a scalar, and its gradient, [N]; without a graph."""
        batch = self.task.batch(self.split, generator)
        loss, grads = self.task.loss_and_grad(self.flat.unflatten(self._scaled(w.detach())), batch)
        gradient = self.flat.flatten(grads)
        return loss, gradient if self.scale is None else gradient * self.scale

    def advance(self, w: Tensor, update: Tensor) -> Tensor:
        """The parameters after an update."""
        return w + update.detach()

    def _scaled(self, w: Tensor) -> Tensor:
        return w if self.scale is None else w * self.scale


class DifferentiableProblem(Problem):
    """The same, with everything attached to one graph: second derivatives of the task are included."""

    def loss_and_grad(self, w: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss on a fresh batch, a scalar, and its gradient, [N]; both differentiable in w."""
        batch = self.task.batch(self.split, generator)
        with torch.enable_grad():
            point = w if w.requires_grad else w.detach().requires_grad_()
            loss = self.task.loss(self.flat.unflatten(self._scaled(point)), batch)
            (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
        return loss, gradient

    def advance(self, w: Tensor, update: Tensor) -> Tensor:
        return w + update
