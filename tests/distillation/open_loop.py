"""What a rule does with given gradients, by the reference interpreter."""

from __future__ import annotations

import torch
from torch import Tensor

from closedform.lang import initial_memory, step
from closedform.rules import Rule


def updates_of(rule: Rule, gradients: Tensor, w: Tensor | None = None) -> Tensor:
    """The rule's updates over gradients [T, N], learning rate included; ``w`` [N], 0 by default, stays."""
    w = torch.zeros_like(gradients[0]) if w is None else w
    memory, updates = initial_memory(rule.program, w), []
    for index, g in enumerate(gradients):
        inputs = {"g": g, "w": w, "t": torch.tensor(index + 1.0, dtype=torch.float64)}
        outputs, memory = step(rule.program, inputs, memory)
        updates.append(rule.lr * outputs["update"].expand_as(g))
    return torch.stack(updates)
