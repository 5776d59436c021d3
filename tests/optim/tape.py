"""The same gradients into two optimizers: what one run was given is played to the other (open loop).

Two closed loops drift apart along whatever the problem does not determine: rounding noise of a gradient that is truly
zero, divided by eps, moves a parameter, and the next gradient answers. With the same gradients into both, parameters
differ by the optimizers' own rounding alone, which can be bounded.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Tape:
    """Gradients of the parameters watched first, second, ...: recorded until ``rewind``, played from then on."""

    def __init__(self) -> None:
        self._gradients: list[deque[Tensor]] = []
        self._watched = 0
        self._playing = False

    def watch(self, model: M) -> M:
        """Record what ``backward`` accumulates in ``.grad`` of the model's parameters, or put it there."""
        for param in (param for param in model.parameters() if param.requires_grad):
            if self._playing:
                assert self._watched < len(self._gradients), "more parameters than were recorded"
            else:
                self._gradients.append(deque())
            param.register_post_accumulate_grad_hook(self._hook(self._gradients[self._watched]))
            self._watched += 1
        return model

    def rewind(self) -> None:
        """From now on, play."""
        self._playing, self._watched = True, 0

    def played(self) -> bool:
        """Whether all that was recorded has been played."""
        return self._playing and not any(self._gradients)

    def _hook(self, gradients: deque[Tensor]):
        def hook(param: Tensor) -> None:
            assert param.grad is not None
            if self._playing:
                with torch.no_grad():
                    param.grad.copy_(gradients.popleft())
            else:
                gradients.append(param.grad.detach().clone())

        return hook


def assert_as_close_as_rounding(
    found: nn.Module, expected: nn.Module, *, lr: float, steps: int, units: float = 16
) -> None:
    """Parameters moved by the same gradients differ by no more than rounding explains.

    A step moves a parameter by lr times a number of size 1, which either side rounds in its own way, and rounds the
    parameter itself once; the sums run over all steps.

    Args:
        found, expected: The same network, trained by two optimizers.
        lr: The largest learning rate.
        steps: How many steps were taken.
        units: Units in the last place by which two ways to compute the update may differ.
    """
    for (name, mine), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        unit = torch.finfo(other.dtype).eps
        tolerance = {"rtol": steps * unit, "atol": steps * lr * units * unit}
        torch.testing.assert_close(mine, other, msg=lambda text, name=name: f"{name}: {text}", **tolerance)
    for mine, other in zip(found.buffers(), expected.buffers(), strict=True):
        assert mine.is_floating_point() or torch.equal(mine, other)  # steps that were counted
