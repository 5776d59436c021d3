"""A quadratic and gradient descent on it: everything about them has a closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from closedform.learned_optimizers import LearnedOptimizer, State, UpdateFunction
from closedform.tasks import Task

CURVATURES = (1.0, 0.5, 2.5, 0.01)


class Bowl(Task):
    """sum_i h_i w_i^2 / 2 from w_i = 1 + i, in float64; if asked, with a random tilt a batch, raised above 0."""

    name, horizon, source = "bowl", 12, "this test"
    dtype = torch.float64

    def __init__(self, curvatures: tuple[float, ...] = CURVATURES, noise: float = 0.0) -> None:
        self.h = torch.tensor(curvatures, dtype=torch.float64)
        self.noise = noise

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"a": (1,), "b": (len(self.h) - 1,)}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        w = 1 + torch.arange(len(self.h), dtype=torch.float64)
        return {"a": w[:1], "b": w[1:]}

    def batch(self, split: str, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (self.noise * torch.randn(len(self.h), generator=generator, dtype=torch.float64),)

    def loss(self, params: dict[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        w = torch.cat([params["a"], params["b"]])
        return (0.5 * self.h * w.square() + batch[0] * w).sum() + 100 * self.noise


class GradientDescent(LearnedOptimizer):
    """update = -c g, with c the one meta-parameter."""

    name, features, state_cost = "gd", ("g",), 0

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(c, dtype=torch.float64))

    def init_state(self, w: Tensor, sizes: object = None) -> State:
        return {}

    def bind(self) -> UpdateFunction:
        return lambda g, w, state: (-self.c * g, {})
