"""Any `torch.optim.Optimizer` as something to compare: what makes it, and what it costs."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from closedform.errors import OptionError

_SIDE = 64
"""Of the square parameter on which the memory is measured."""


@dataclass(frozen=True)
class TorchOptimizer:
    """A class or function that makes an optimizer from parameters and ``lr``.

    Attributes:
        factory: Called as ``factory(parameters, lr=lr, **options)``.
        options: Its other options, by name, in order of names.

    Raises:
        OptionError: the factory has no name of its own, by which finished runs could be told apart.
    """

    factory: Callable[..., torch.optim.Optimizer]
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        name = getattr(self.factory, "__qualname__", "<no name>")
        if "<" in name:
            raise OptionError(
                f"an optimizer's factory must be a class or a function of a module, not {name}: finished runs are kept "
                "under its name; give options by name instead of a lambda or a partial"
            )

    @property
    def name(self) -> str:
        """What the optimizer is called."""
        return self.factory.__qualname__

    @property
    def identity(self) -> str:
        """Module, name, version of the library where it has one, and options."""
        module = inspect.getmodule(self.factory)
        package = (module.__name__ if module else "").partition(".")[0]
        version = getattr(sys.modules.get(package), "__version__", "")
        return f"{module.__name__ if module else ''}.{self.name} {version} {self.options!r}"

    @functools.cached_property
    def state_cost(self) -> float:
        """Buffers a parameter, measured on one matrix."""
        weight = torch.nn.Parameter(torch.ones(_SIDE, _SIDE))
        optimizer = self.make([weight], 1e-3)
        for _ in range(2):
            weight.grad = torch.full_like(weight, 0.1)
            optimizer.step()
        kept = [value.numel() for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor)]
        return round(sum(count for count in kept if count > 1) / weight.numel(), 2)

    def make(self, parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer at work on ``parameters``."""
        return self.factory(parameters, lr=lr, **dict(self.options))
