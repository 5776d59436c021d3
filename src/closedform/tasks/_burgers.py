"""A physics-informed network: a function of place and time that obeys Burgers' equation.

u_t + u u_x = nu u_xx on x in [-1, 1], t in [0, 1], with u(x, 0) = -sin(pi x) and u(-1, t) = u(1, t) = 0. For the small
nu = 0.01/pi of the source a steep front forms at x = 0.

The network is a perceptron with tanh. Its derivatives in x and t are carried forward through the layers beside its
values, in closed form, so that the loss is a plain function and its gradient one ordinary backward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._names import lookup
from closedform._options import check_count, check_positive
from closedform.tasks._base import SPLITS, Batch, Params, Task, with_options
from closedform.tasks._dense import ACTIVATIONS, Dense
from closedform.tasks._network import NetworkTask

_GRID = 48
"""Points along x and along t in ``full``."""


@dataclass(frozen=True)
class BurgersOptions:
    """What can be chosen about the physics-informed network.

    Attributes:
        batch_size: Points inside; a quarter as many lie on the start, and as many on the walls.
        horizon: Steps an episode.
        width: Units of each of the ``layers`` hidden layers.
        layers: Hidden layers.
        viscosity: nu.
    """

    batch_size: int = 256
    horizon: int = 1500
    width: int = 40
    layers: int = 4
    viscosity: float = 0.01 / math.pi

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, least=4)
        for name in ("horizon", "width", "layers"):
            check_count(name, getattr(self, name))
        check_positive("viscosity", self.viscosity)


class Burgers(NetworkTask):
    """Mean squared residual of the equation inside, plus mean squared error at the start and at the walls.

    A batch: points inside, [n, 2] of (x, t), points x at the start, [n/4], and points (x, t) on the walls, [n/4, 2],
    all uniform and drawn anew each time. The splits are the same problem; ``full`` is a fixed grid.

    Args:
        name: The task's name.
        options: Network, batch, episode and viscosity.
    """

    source = "Raissi, Perdikaris & Karniadakis 2019, section 2.1.1"

    def __init__(self, name: str, options: BurgersOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options
        self.network = Dense((2, *[options.width] * options.layers, 1), ACTIVATIONS["tanh"], None)
        self.specs = self.network.specs

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        lookup("split", split, SPLITS)
        inside, few = self.options.batch_size, self.options.batch_size // 4
        drawn = torch.rand(2 * inside + 3 * few, generator=generator, device=generator.device)
        drawn = drawn.to(self.device, self.dtype)
        x, t, start, time, wall = drawn.split([inside, inside, few, few, few])
        return (
            torch.stack([2 * x - 1, t], dim=-1),
            2 * start - 1,
            torch.stack([torch.where(wall < 0.5, -1.0, 1.0).to(self.dtype), time], dim=-1),
        )

    def full(self, split: str) -> Batch:
        lookup("split", split, SPLITS)
        x = torch.linspace(-1, 1, _GRID, device=self.device, dtype=self.dtype)
        t = torch.linspace(0, 1, _GRID, device=self.device, dtype=self.dtype)
        walls = torch.cartesian_prod(x[[0, -1]], t)
        return torch.cartesian_prod(x, t), x, walls

    def loss(self, params: Params, batch: Batch) -> Tensor:
        inside, start, walls = batch
        u, u_x, u_t, u_xx = self.derivatives(params, inside)
        residual = u_t + u * u_x - self.options.viscosity * u_xx
        begin = self.network(params, torch.stack([start, torch.zeros_like(start)], dim=-1))[..., 0]
        edge = self.network(params, walls)
        wrong = begin + torch.sin(math.pi * start)
        return residual.square().mean() + wrong.square().mean() + edge.square().mean()

    def derivatives(self, params: Params, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u, u_x, u_t and u_xx at points [n, 2], each [n]."""
        value = points
        x, t = (torch.zeros_like(points) + unit for unit in points.new_tensor([[1.0, 0.0], [0.0, 1.0]]))
        xx = torch.zeros_like(points)
        for index, (weight, bias) in enumerate(self.network.layers):
            if index:  # tanh' = 1 - tanh^2, tanh'' = -2 tanh tanh'
                value = torch.tanh(value)
                slope = 1 - value.square()
                xx = slope * (xx - 2 * value * x.square())
                x, t = slope * x, slope * t
            matrix = params[weight].mT
            value, x, t, xx = value @ matrix + params[bias], x @ matrix, t @ matrix, xx @ matrix
        return value[..., 0], x[..., 0], t[..., 0], xx[..., 0]


def burgers(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A physics-informed network for Burgers' equation. ``data_dir`` is not needed."""
    return Burgers("burgers", with_options(BurgersOptions(), options, "burgers"))
