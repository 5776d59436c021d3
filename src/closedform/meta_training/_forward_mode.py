"""Derivatives by the meta-parameters on their way along a run: forward mode over a few steps that were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from closedform.learned_optimizers import State


def moving(state: State, device: torch.device | None = None) -> State:
    """What of a state can have a derivative, lengths of tensors cannot; on ``device``, so that it can be batched."""
    return {key: value.to(device or value.device) for key, value in state.items() if value.is_floating_point()}


def carry_on(
    replay: nn.Module,
    inputs: Any,
    state: State,
    parameters: Mapping[str, Tensor],
    basis: Mapping[str, Tensor],
    tangents: State,
    moved: Tensor,
) -> tuple[Tensor, State, Tensor]:
    """Carry derivatives in D directions of the parameters over steps that were recorded.

    Args:
        replay: ``replay(inputs, state, moved)`` takes the steps from a state and a displacement of the optimizee, and
            returns what is wanted, the state and the displacement after them.
        inputs: What the steps were given; without derivatives.
        state: Before the first of them.
        parameters: The replay's own parameters.
        basis: The directions, [D, ...] for each parameter.
        tangents: The derivatives of what moves of the state, [D, ...] for each entry.
        moved: The derivatives of the displacement, [D, ...].

    Returns:
        Derivatives of what is wanted, of the state, and of the displacement.
    """
    start, here = torch.zeros_like(moved[0]), moving(state, moved.device)  # of the former only derivatives matter

    def run(parameters: dict[str, Tensor], here: State, start: Tensor) -> tuple[Tensor, State, Tensor]:
        wanted, new, end = functional_call(replay, parameters, (inputs, {**state, **here}, start))
        return wanted, {key: new[key] for key in here}, end

    def derivative(*directions: Any) -> tuple[Tensor, State, Tensor]:
        return jvp(run, (dict(parameters), here, start), directions)[1]

    found: tuple[Tensor, State, Tensor] = vmap(derivative)(dict(basis), tangents, moved)
    return found
