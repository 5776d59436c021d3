"""Sensitivities of the parameters and of a rule's state to its constants, carried along on a subset of coordinates.

With x the coordinates of the constants, one step of the rule, and of weight decay d, is

    w <- w + lr f (u(g, w, s; x) - d w),    s <- s(g, w, s; x),    f = exp(x_lr),

and A = dw/dx and ds/dx follow it in forward mode. The gradients g are taken as they were: what a change of the
constants would have done to them by way of the loss's curvature is left out. The hypergradient of a step's loss is
<g, A>: exact for losses whose gradient does not depend on w, and what backpropagation with detached inputs gives for
all (`closedform.meta_training.ForwardAccumulation`). Forgetting, A <- (1 - 1/memory) A before each step, stands in for
the contraction that curvature would bring; without it A by the learning rate is the whole way from the start, and the
rate grows for as long as the loss still falls along it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from closedform.learned_optimizers import State, SymbolicOptimizer
from closedform.meta_training._forward_mode import carry_on, moving


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

    @staticmethod
    def on(device: torch.device, saved: dict[str, Any]) -> Seen:
        """One from a checkpoint, on a device."""
        there: dict[str, Any] = {key: value if value is None else value.to(device) for key, value in saved.items()}
        return Seen(**there)

    def where_active(self, new: Tensor, old: Tensor) -> Tensor:
        """What is new of the coordinates that take the step, and what was of the others."""
        return new if self.active is None or not new.dim() else torch.where(self.active, new, old)

    def states_where_active(self, new: State, old: State) -> State:
        """As `where_active`, of all entries of a state; numbers that all share are new."""
        return {key: self.where_active(value, old[key]) for key, value in new.items()}


@dataclass(frozen=True)
class Recorded:
    """Steps to be replayed.

    Attributes:
        steps: What each was given.
        keep: What is kept of a displacement from step to step.
        path: The displacement before each step without derivatives, [steps, n]; None: this run is to find it.
    """

    steps: list[Seen]
    keep: float
    path: Tensor | None = None


class _Replay(nn.Module):
    """The rule on steps that were recorded; a function of its constants for ``functional_call``."""

    def __init__(self, optimizer: SymbolicOptimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    def forward(self, recorded: Recorded, state: State, moved: Tensor) -> tuple[Tensor, State, Tensor]:
        """Take the steps.

        Args:
            recorded: What the steps were given.
            state: Before the first.
            moved: The displacement before the first, [n], of which derivatives alone matter.

        Returns:
            The displacement before each step, [steps, n], whose derivative is A; the state and displacement at the end.
        """
        update_function, path = self.optimizer.bind(), []
        scale = self.optimizer.values().get("lr", torch.ones((), dtype=torch.float64))
        for place, seen in enumerate(recorded.steps):
            path.append(moved)
            w = seen.w if recorded.path is None else seen.w + (moved - recorded.path[place])
            kept = recorded.keep * moved
            update, new = update_function(seen.g, w, state)
            after = kept + seen.lr * (update - scale.to(w.dtype) * seen.decay * w)
            moved, state = seen.where_active(after, kept), seen.states_where_active(new, state)
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
        self.tangents = {key: value.new_zeros(rows, *value.shape) for key, value in moving(self.state).items()}

    @torch.no_grad()
    def advance(self, steps: list[Seen]) -> Tensor:
        """Go on over some steps.

        Returns:
            A before each, [K, steps, n].
        """
        replay, start = _Replay(self.optimizer), torch.zeros_like(steps[0].w)
        plain, after, _ = replay(Recorded(steps, self.keep), self.state, start)
        x = self.optimizer.coordinates.detach()
        path, self.tangents, self.moved = carry_on(
            replay,
            Recorded(steps, self.keep, plain),
            self.state,
            {"optimizer.coordinates": x},
            {"optimizer.coordinates": torch.eye(len(x), dtype=x.dtype)},
            self.tangents,
            self.moved,
        )
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
