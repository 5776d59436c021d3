"""A rule run on made-up gradients, many histories side by side, by the reference interpreter in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from closedform.lang import Memory, Program, horizon_inputs, initial_memory, shape_inputs, step

TOTAL = 1000
"""T of a probe: rules that read the horizon are probed in their first steps unless told otherwise."""
RATES = (1.0, 1.001, 1.01, 1.1, 1.5, 3.0)
"""By which gradients grow from step to step."""


def run(program: Program, gradients: Tensor, w: Tensor, total: int = TOTAL) -> Tensor:
    """The updates of a rule, w staying where it is.

    Args:
        program: The rule's program.
        gradients: [histories, steps, *shape].
        w: The parameters, [*shape] or [histories, *shape].
        total: T, in steps.

    Returns:
        As ``gradients``.
    """
    w = w.expand(len(gradients), *gradients.shape[2:])
    memory = side_by_side(initial_memory(program, w[0]), len(w))
    updates = []
    for t, g in enumerate(gradients.unbind(1), start=1):
        outputs, memory = step_all(program, g, w, memory, t, total)
        updates.append(outputs.expand_as(w))
    return torch.stack(updates, dim=1)


def step_all(program: Program, g: Tensor, w: Tensor, memory: Memory, t: int, total: int) -> tuple[Tensor, Memory]:
    """One step of histories side by side: g, w [histories, *shape] and memory of each."""

    def one(g: Tensor, w: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        now = torch.tensor(float(t), dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": now, **horizon_inputs(now, total), **shape_inputs(w.shape)}
        outputs, memory = step(program, inputs, memory)
        return outputs["update"].expand_as(w), memory

    found: tuple[Tensor, Memory] = torch.func.vmap(one)(g, w, memory)
    return found


def side_by_side(memory: Memory, count: int) -> Memory:
    """One memory for each of ``count`` histories."""
    return {key: value.expand(count, *value.shape) for key, value in memory.items()}


def histories(shape: tuple[int, ...], steps: int, seed: int = 0) -> dict[str, Tensor]:
    """Gradients [steps, *shape] that differ much: random, heavy-tailed, sparse, one at the end, constant, growing."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((steps, *shape), generator=generator, dtype=torch.float64)
    there = torch.rand((steps, *shape), generator=generator, dtype=torch.float64) < 0.05
    last = torch.zeros_like(normal)
    last[-1] = normal[-1]
    ages = torch.arange(-steps, 0, dtype=torch.float64).reshape(-1, *(1 for _ in shape))
    found = {"normal": normal, "heavy-tailed": normal**5, "sparse": normal * there, "one": last}
    return found | {f"growing {rate:g}": normal[0] * rate**ages for rate in RATES}
