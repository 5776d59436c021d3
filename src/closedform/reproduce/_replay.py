"""Another rule's updates on recorded gradients: recordings whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from closedform.lang import horizon_inputs, initial_memory, step
from closedform.rules import Rule
from closedform.trajectories import Trajectories, column_source, lagged, window_columns

SIGNAL = "g"
LEAST = 1e-12
"""A root mean square at least, so that gradients that are always 0 stay 0."""


def replayed(recording: Trajectories, rule: Rule, *, window: int = 0, standardise: bool = False) -> Trajectories:
    """A recording of the gradient alone, with the updates that a rule gives for it.

    Args:
        recording: Where gradients, weights and rows come from.
        rule: Gives the updates, learning rate included, from every episode's first step on.
        window: Steps that the columns look back.
        standardise: Replace every gradient by asinh(g/s), s its root mean square over its episode: all parameters are
            of one size then, and exp(g) is neither 1 + g nor past all bounds.

    Returns:
        In float64.
    """
    gradients, weights = recording.gradients.to(torch.float64), recording.weights.to(torch.float64)
    if standardise:
        size = gradients.square().mean(dim=1, keepdim=True).sqrt().clamp_min(LEAST)
        gradients = torch.asinh(gradients / size)
    updates = rule_updates(rule, gradients, weights)
    source, columns, cells = column_source((SIGNAL,)), window_columns((SIGNAL,), window), recording.positions()
    return replace(
        recording,
        columns=columns,
        features=torch.stack([lagged(gradients, column.lag)[cells] for column in columns], dim=1),
        updates=updates[cells],
        source=source,
        gradients=gradients,
        weights=weights,
        episode_updates=updates,
        provenance={**recording.provenance, "optimizer": {"name": rule.name, "rule": rule.to_json()}},
    )


def rule_updates(rule: Rule, gradients: Tensor, weights: Tensor) -> Tensor:
    """A rule's updates, learning rate included, over episodes [E, T, C] of T steps, by the reference interpreter."""
    memory = initial_memory(rule.program, gradients[:, 0])
    updates = torch.empty_like(gradients)
    steps = gradients.shape[1]
    for index in range(steps):
        t = torch.tensor(index + 1.0, dtype=torch.float64)
        inputs = {SIGNAL: gradients[:, index], "w": weights[:, index], "t": t, **horizon_inputs(t, steps)}
        outputs, memory = step(rule.program, inputs, memory)
        updates[:, index] = rule.lr * outputs["update"]
    return updates
