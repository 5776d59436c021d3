"""A small task and a small optimizer on which the right answer is known."""

from __future__ import annotations

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, Sizes, State, UpdateFunction
from closedform.tasks import Batch, Params, Task


class NoisyBowl(Task):
    """0.5 h |w - x|^2 with x a random batch: SGD is best near lr = 1/h, and diverges above 2/h."""

    name = "noisy-bowl"
    horizon = 12
    source = "test"

    def __init__(self, curvature: float = 1.0, noise: float = 0.0, name: str = "noisy-bowl") -> None:
        self.curvature, self.noise, self.name = curvature, noise, name
        self.seen: list[float] = []

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"a": (3,), "b": (2, 1)}

    @property
    def options(self) -> tuple[float, float]:
        return self.curvature, self.noise

    def init(self, generator: torch.Generator) -> Params:
        return {name: self._normal(shape, generator) for name, shape in self.shapes.items()}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        assert split == "eval", "optimizers are compared on the eval half"
        drawn = torch.randn((), generator=generator)
        self.seen.append(float(drawn))
        return (self.noise * drawn,)

    def full(self, split: str) -> Batch:
        return (torch.zeros(()),)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        total = sum(((value - batch[0]) ** 2).sum() for value in params.values())
        return 0.5 * self.curvature * torch.as_tensor(total)

    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        return {**super().metrics(params, batch), "accuracy": 0.5}


class LearnedSGD(LearnedOptimizer):
    """SGD behind the pure interface of learned optimizers."""

    name = "learned-sgd"
    features = ("g",)
    state_cost = 1

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = torch.nn.Parameter(torch.tensor(lr))

    def init_state(self, w: Tensor, sizes: Sizes | None = None) -> State:
        assert sizes == [(3,), (2, 1)]
        return {"t": torch.zeros(())}

    def bind(self) -> UpdateFunction:
        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            assert g.shape == w.shape == (5,)
            return -self.lr * g, {"t": state["t"] + 1}

        return update
