"""Gradients and weights that an optimizer is run over, and derivatives of its last updates by what it read before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State, fresh_state
from closedform.trajectories import Trajectories

Step: TypeAlias = Callable[[Tensor, Tensor, Tensor, State], tuple[Tensor, State]]
"""(nudge, g, w, state) -> (update, new state), [N] each: an update function with a place where zeros are added to what
it reads, by which the derivatives are taken."""


@dataclass(frozen=True)
class Tape:
    """What an optimizer is run over: gradients and weights [T, N], in float64.

    Attributes:
        gradients, weights: [T, N].
        block: Coordinates that make one parameter tensor; None: each is on its own.
    """

    gradients: Tensor
    weights: Tensor
    block: int | None = None

    @property
    def steps(self) -> int:
        """T."""
        return len(self.gradients)

    def begin(self, optimizer: LearnedOptimizer) -> State:
        """The optimizer's state before the first step, in float64 as the tape is."""
        count = self.gradients.shape[1]
        sizes = [count] if self.block is None else [self.block] * (count // self.block)
        return fresh_state(optimizer, self.weights[0], sizes, self.steps)

    def copies(self, count: int) -> Tape:
        """The same coordinates ``count`` times over."""
        return Tape(self.gradients.repeat(1, count), self.weights.repeat(1, count), self.block)

    @property
    def watched(self) -> Tensor:
        """The coordinates whose updates are looked at, [C]: one a tensor if there are tensors."""
        return torch.arange(0, self.gradients.shape[1], self.block or 1)


def recorded(trajectories: Trajectories, coordinates: int, seed: int) -> Tape | None:
    """A recording's whole coordinates, some drawn; None if there are none."""
    gradients, weights = (
        values.to(torch.float64).transpose(0, 1).flatten(1) for values in (trajectories.gradients, trajectories.weights)
    )
    whole = torch.isfinite(gradients).all(0) & torch.isfinite(weights).all(0) & (gradients != 0).any(0)
    chosen = torch.nonzero(whole).squeeze(1)
    if not len(chosen):
        return None
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))[:coordinates]
    chosen = chosen[order].sort().values
    return Tape(gradients[:, chosen], weights[:, chosen])


def made_up(steps: int, coordinates: int, seed: int, block: int | None = None) -> Tape:
    """Independent normal gradients of deviation 1, weights 1."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn((steps, coordinates), generator=generator, dtype=torch.float64)
    return Tape(gradients, torch.ones_like(gradients), block)


def by_derivatives(step: Step, state: State, tape: Tape, lags: int, probes: Sequence[int]) -> Tensor:
    """du_t/dx_{t-k}, exactly: [P, K, C], by back-propagation from each probed step t.

    Args:
        step: The optimizer.
        state: Before the first step.
        tape: What it is run over.
        lags: K.
        probes: Steps t, as indices of the tape, each at least K - 1.
    """
    first, last = min(probes) - lags + 1, max(probes)
    with torch.no_grad():
        none = torch.zeros_like(tape.gradients[0])
        for t in range(first):
            _, state = step(none, tape.gradients[t], tape.weights[t], state)
    nudges, updates = [], {}
    with torch.enable_grad():
        for t in range(first, last + 1):
            nudges.append(torch.zeros_like(none, requires_grad=True))
            updates[t], state = step(nudges[-1], tape.gradients[t], tape.weights[t], state)
    return torch.stack([_back(updates[t], nudges[t - first - lags + 1 : t - first + 1], tape) for t in probes])


def _back(update: Tensor, nudges: Sequence[Tensor], tape: Tape) -> Tensor:
    """[K, C], the latest first."""
    if not update.requires_grad:
        return torch.zeros(len(nudges), len(tape.watched), dtype=torch.float64)
    found = torch.autograd.grad(
        update[tape.watched].sum(), nudges, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.stack(found[::-1])[:, tape.watched]


@torch.no_grad()
def by_perturbations(
    run: Callable[[Tape], Tensor], tape: Tape, lags: int, probes: Sequence[int], size: Tensor
) -> Tensor:
    """The same by central differences of the gradient: [P, K, C]. All lags are runs side by side.

    Args:
        run: A tape to its updates, [T, N].
        tape, lags, probes: As for `by_derivatives`.
        size: What is added and taken away, [N].
    """
    count, width, watched = len(probes) * lags, tape.gradients.shape[1], tape.watched
    changed = tape.copies(2 * count)
    places = changed.gradients.view(tape.steps, 2, count, width)
    for index in range(count):
        t = probes[index // lags] - index % lags
        places[t, 0, index, watched] += size[watched]
        places[t, 1, index, watched] -= size[watched]
    updates = run(changed)
    found = []
    for number, t in enumerate(probes):
        both = updates[t].view(2, count, width)[:, number * lags : (number + 1) * lags]
        found.append(((both[0] - both[1]) / (2 * size))[:, watched])
    return torch.stack(found)
