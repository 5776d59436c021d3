"""An optimizer's state as one vector a coordinate, its map from step to step while time and gradient are held.

The states are [D, N]: D entries of each of N coordinates. Before it is held the optimizer runs some steps as they come,
from its first one on, so that what a first step sets is set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, RecurrentOptimizer, State, SymbolicOptimizer, fresh_state

LATE = 10**6
"""The step at which time is held; half of all."""
BEGINNING, PLAIN = 200, (200, 1500)
"""Steps as they come, and then with time held, before a fixed point is looked for; more where it is not found."""
_NEWTON = 40
_H = 1e-6
_FLOOR = 1e-3
"""Least scale of an entry, as a share of the largest of its kind at that coordinate."""
_KINK = 1e-3
"""Difference of one-sided derivatives, as a share, that makes a kink."""


class Held:
    """The map of a state to the next one, and its derivatives.

    Args:
        optimizer: Coordinatewise, in float64.
        gradients: Constant ones, [N].
    """

    def __init__(self, optimizer: LearnedOptimizer, gradients: Tensor) -> None:
        self._optimizer, self._bound = optimizer, optimizer.bind()
        self._exact = isinstance(optimizer, (SymbolicOptimizer, RecurrentOptimizer))
        self.gradients = gradients
        state = fresh_state(optimizer, torch.zeros_like(gradients), None, 2 * LATE)
        own = {key: value for key, value in state.items() if value.dim() and value.shape[-1] == len(gradients)}
        self._shapes = {key: value.shape[:-1] for key, value in own.items()}
        begun = self._begun(state)
        self.start = self.vector(begun)
        self._kept = {key: value for key, value in begun.items() if key not in self._shapes}

    @property
    def entries(self) -> int:
        """D."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    @torch.no_grad()
    def _begun(self, state: State) -> State:
        """The state after a beginning, and the numbers that all coordinates share where they come to rest."""
        for _ in range(BEGINNING):
            state = self._bound(self.gradients, torch.zeros_like(self.gradients), state)[1]
        shared = [key for key, value in state.items() if key.startswith("rule.") and not value.dim()]
        known = {**state, "t": torch.tensor(LATE - 1.0, dtype=torch.float64)}
        return {**known, **self._rest_of(shared, known)} if shared else known

    def _rest_of(self, shared: list[str], state: State) -> State:
        """By Newton's method, as they depend on each other alone; as they are, where that does not end."""
        one, none = torch.ones_like(self.gradients), torch.zeros_like(self.gradients)

        def after(values: Tensor) -> Tensor:
            new = self._bound(one, none, {**state, **dict(zip(shared, values.unbind(), strict=True))})[1]
            return torch.stack([new[key].to(torch.float64) for key in shared])

        values = torch.stack([state[key].to(torch.float64) for key in shared])
        for _ in range(_NEWTON):
            left = after(values) - values
            if bool((left.abs() <= 1e-12 * (1 + values.abs())).all()):
                return dict(zip(shared, values.unbind(), strict=True))
            steps = torch.diag(_H * (1 + values.abs()))
            columns = [(after(values + h) - after(values - h)) / (2 * h.sum()) for h in steps]
            matrix = torch.eye(len(values), dtype=torch.float64) - torch.stack(columns, 1)
            if not bool(torch.isfinite(matrix).all()) or int(torch.linalg.matrix_rank(matrix, rtol=1e-9)) < len(values):
                break  # a counter
            values = values + torch.linalg.solve(matrix, left)
        return {}

    def state(self, vector: Tensor) -> State:
        """A vector [D, M] of M coordinates as a state."""
        parts = vector.split([math.prod(shape) for shape in self._shapes.values()])
        own = {key: part.reshape(*shape, -1) for part, (key, shape) in zip(parts, self._shapes.items(), strict=True)}
        return {**self._kept, **own}

    def vector(self, state: State) -> Tensor:
        """The other way."""
        if not self._shapes:
            return torch.zeros(0, len(self.gradients), dtype=torch.float64)
        return torch.cat([state[key].reshape(-1, state[key].shape[-1]) for key in self._shapes]).to(torch.float64)

    def scale(self, vector: Tensor) -> Tensor:
        """What counts as large for each entry: itself, or a share of the largest of its kind."""
        parts = vector.abs().split([math.prod(shape) for shape in self._shapes.values()])
        return torch.cat([part.clamp(min=_FLOOR * part.amax(0)) for part in parts]) if parts else vector.abs()

    def _next(self, vector: Tensor, gradients: Tensor) -> Tensor:
        return self.vector(self._bound(gradients, torch.zeros_like(gradients), self.state(vector))[1])

    @torch.no_grad()
    def next(self, vector: Tensor) -> Tensor:
        """The state one step later."""
        return self._next(vector, self.gradients)

    @torch.no_grad()
    def update(self, vector: Tensor, gradients: Tensor) -> Tensor:
        """The update that a state gives."""
        return self._bound(gradients, torch.zeros_like(gradients), self.state(vector))[0].to(torch.float64)

    def slope(self, vector: Tensor) -> Tensor:
        """du/dg, the old state as it is: a central difference."""
        h = _H * self.gradients.abs()
        return (self.update(vector, self.gradients + h) - self.update(vector, self.gradients - h)) / (2 * h)

    def jacobian(self, vector: Tensor) -> Tensor:
        """[N, D, D]; all columns side by side. Exact, or by central differences of an optimizer of another kind."""
        if not self._exact:
            up, down = self._sides(vector)
            return (up + down) / 2
        d, n = vector.shape
        around = vector[:, None, :].expand(d, d, n).reshape(d, d * n).requires_grad_()
        bound = self._optimizer.bind()  # a graph of its own: the backward pass frees it
        state = bound(self.gradients.repeat(d), torch.zeros(d * n, dtype=torch.float64), self.state(around))[1]
        own = self.vector(state).reshape(d, d, n).diagonal().sum()  # block i: entry i alone
        if not own.requires_grad:
            return torch.zeros(n, d, d, dtype=torch.float64)
        return torch.autograd.grad(own, around)[0].reshape(d, d, n).permute(2, 1, 0)

    def slowest(self, vector: Tensor) -> Tensor:
        """The same; at a kink (of a maximum) the side on which more is kept."""
        found = self.jacobian(vector)
        up, down = self._sides(vector)
        scale = self.scale(vector).clamp(min=torch.finfo(torch.float64).tiny).T
        alike = scale[:, None, :] / scale[:, :, None]  # derivatives of entries in units of their scales
        largest = torch.maximum(up.abs(), down.abs()) * alike
        kink = (up - down).abs() * alike > _KINK * largest.clamp(min=_KINK)
        return torch.where(kink, torch.where(up.abs() >= down.abs(), up, down), found)

    @torch.no_grad()
    def _sides(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Differences to above and to below, [N, D, D] each."""
        d, n = vector.shape
        h = _H * self.scale(vector)
        h = torch.where(h > 0, h, _H * self.gradients.abs())
        around = vector[:, None, :].expand(d, d, n)
        step = torch.eye(d, dtype=torch.float64)[:, :, None] * h[:, None, :]
        gradients, middle = self.gradients.repeat(d), self.next(vector)[:, None, :]
        up, down = (
            self._next((around + sign * step).reshape(d, d * n), gradients).reshape(d, d, n) - middle
            for sign in (1, -1)
        )
        return (up / h).permute(2, 0, 1), (-down / h).permute(2, 0, 1)
