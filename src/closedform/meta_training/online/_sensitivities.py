"""Sensitivities of the parameters and of a rule's state to its constants, carried along on a subset of coordinates.

With x the coordinates of the constants, one step of the rule, and of weight decay d, is

    w <- w + lr f (u(g, w, s; x) - d w),    s <- s(g, w, s; x),    f = exp(x_lr),

and A = dw/dx and ds/dx follow it in forward mode. The gradients g are taken as they were: what a change of the
constants would have done to them by way of the loss's curvature is left out. The hypergradient of a step's loss is
<g, A>: exact for losses whose gradient does not depend on w, and what backpropagation with detached inputs gives for
all (`closedform.meta_training.ForwardAccumulation`). Forgetting, A <- (1 - 1/memory) A before each step, stands in for
the contraction that curvature would bring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from closedform.learned_optimizers import State, SymbolicOptimizer


@dataclass(frozen=True)
class Seen:
    """What a step was given, at the subset's n coordinates.

    Attributes:
        g, w: The gradient and the parameters before the step, [n].
        lr, decay: Learning rate as the schedule has it, and weight decay: one number for each, [n].
        active: Which coordinates take the step, [n]; None: all.
        after: The parameters after it, [n], where the step is not replayed.
    """

    g: Tensor
    w: Tensor
    lr: Tensor
    decay: Tensor
    active: Tensor | None = None
    after: Tensor | None = None


class _Replay(nn.Module):
    """The rule on steps that were recorded; a function of its constants for ``functional_call``."""

    def __init__(self, optimizer: SymbolicOptimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    def forward(
        self, steps: list[Seen], state: State, moved: Tensor, keep: float, along: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor]:
        """Take the steps.

        Args:
            steps: What each was given.
            state: Before the first.
            moved: The displacement before the first, [n], of which derivatives alone matter.
            keep: What is kept of it from step to step.
            along: The displacement before each step as it is without derivatives, [steps, n]; None: this is the run
                without them.

        Returns:
            The displacement before each step, [steps, n], whose derivative is A; the state and displacement at the end.
        """
        update_function, path = self.optimizer.bind(), []
        scale = self.optimizer.values().get("lr", torch.ones((), dtype=torch.float64))
        for place, seen in enumerate(steps):
            path.append(moved)
            w = seen.w if along is None else seen.w + (moved - along[place])
            moved = keep * moved
            update, new = update_function(seen.g, w, state)
            after = moved + seen.lr * (update - scale.to(w.dtype) * seen.decay * w)
            if seen.active is not None:
                after = torch.where(seen.active, after, moved)
                new = {
                    key: torch.where(seen.active, value, state[key]) if value.dim() else value
                    for key, value in new.items()
                }
            moved, state = after, new
        return torch.stack(path), state, moved


class Sensitivities:
    """What is carried along for one rule.

    Args:
        optimizer: The rule, with ``lr`` 1; its coordinates are x, [K].
        w: Parameters at the subset before the first step, [n].
        total_steps: T, if the rule reads it.
        memory: Steps after which a sensitivity is forgotten; None: never.
    """

    def __init__(
        self, optimizer: SymbolicOptimizer, w: Tensor, total_steps: int | None = None, memory: float | None = None
    ) -> None:
        self.optimizer, self.keep = optimizer, 1.0 if memory is None else 1 - 1 / memory
        rows = len(optimizer.trainable)
        self.state = optimizer.init_state(w, None, total_steps)
        self.moved = w.new_zeros(rows, len(w))
        self.tangents = {key: value.new_zeros(rows, *value.shape) for key, value in self._moving().items()}

    @torch.no_grad()
    def advance(self, steps: list[Seen]) -> Tensor:
        """Go on over some steps.

        Returns:
            A before each, [K, steps, n].
        """
        replay, moving = _Replay(self.optimizer), self._moving()
        constants = {"optimizer.coordinates": self.optimizer.coordinates.detach()}
        fixed = {key: value for key, value in self.state.items() if key not in moving}

        def run(x: dict[str, Tensor], moving: State, moved: Tensor) -> tuple[Tensor, State, Tensor]:
            path, new, moved = functional_call(replay, x, (steps, {**fixed, **moving}, moved, self.keep, plain))
            return path, {key: value for key, value in new.items() if key in moving}, moved

        start = torch.zeros_like(steps[0].w)
        plain, after, _ = replay(steps, self.state, start, self.keep)

        def derivative(*tangents: Any) -> tuple[Tensor, State, Tensor]:
            return jvp(run, (constants, moving, start), tangents)[1]

        rows = len(self.optimizer.trainable)
        basis = {"optimizer.coordinates": torch.eye(rows, dtype=torch.float64)}
        path, self.tangents, self.moved = vmap(derivative)(basis, self.tangents, self.moved)
        self.state = after
        return path

    def forget(self) -> None:
        """Start again from sensitivities of zero."""
        self.moved = torch.zeros_like(self.moved)
        self.tangents = {key: torch.zeros_like(value) for key, value in self.tangents.items()}

    def state_dict(self) -> dict[str, Any]:
        """Tensors alone."""
        return {"moved": self.moved, "state": dict(self.state), "tangents": dict(self.tangents)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume."""
        self.moved = saved["moved"].to(self.moved)
        self.state = {key: saved["state"][key].to(value) for key, value in self.state.items()}
        self.tangents = {key: saved["tangents"][key].to(value) for key, value in self.tangents.items()}

    def _moving(self) -> State:
        return {key: value for key, value in self.state.items() if value.is_floating_point()}


class Observed:
    """The sensitivity to the learning rate alone, of any rule: by x_lr a step's derivative is the step itself.

    Args:
        w: Parameters at the subset before the first step, [n].
        memory: As for `Sensitivities`.
    """

    def __init__(self, w: Tensor, memory: float | None = None) -> None:
        self.keep = 1.0 if memory is None else 1 - 1 / memory
        self.moved = w.new_zeros(1, len(w))

    @staticmethod
    def seen(step: Seen, after: Tensor) -> Seen:
        """A step with what came of it."""
        return replace(step, after=after)

    def advance(self, steps: list[Seen]) -> Tensor:
        """As `Sensitivities.advance`: A before each step, [1, steps, n]."""
        path = []
        for step in steps:
            path.append(self.moved)
            assert step.after is not None
            self.moved = self.keep * self.moved + (step.after - step.w)
        return torch.stack(path, 1)

    def forget(self) -> None:
        """Start again from zero."""
        self.moved = torch.zeros_like(self.moved)

    def state_dict(self) -> dict[str, Any]:
        """Tensors alone."""
        return {"moved": self.moved}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume."""
        self.moved = saved["moved"].to(self.moved)
