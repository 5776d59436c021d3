"""Optimizers as what reads them needs them, and at work on gradients that are given."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from closedform.learned_optimizers import LearnedOptimizer, State, SymbolicOptimizer, UpdateFunction, load_optimizer
from closedform.rules import Rule


def in_double(optimizer: Rule | LearnedOptimizer | str | Path) -> LearnedOptimizer:
    """An optimizer behind the pure interface, in double precision; a network is copied.

    Args:
        optimizer: It, or what `load_optimizer` takes.

    Raises:
        UnknownNameError, RuleError, CheckpointError: it cannot be loaded.
    """
    found = load_optimizer(optimizer)
    if isinstance(found, Rule):
        return SymbolicOptimizer(found)
    return found if isinstance(found, SymbolicOptimizer) else copy.deepcopy(found).double()


def rule_of(optimizer: LearnedOptimizer) -> Rule | None:
    """The rule behind an optimizer, if it is one."""
    return optimizer.rule() if isinstance(optimizer, SymbolicOptimizer) else None


@torch.no_grad()
def replayed(update: UpdateFunction, state: State, gradients: Tensor, weights: Tensor) -> tuple[Tensor, State]:
    """Run an optimizer over given gradients, whatever its updates.

    Args:
        update: From ``bind`` or ``bind_stacked``.
        state: Before the first step.
        gradients, weights: [T, N], or [T, K, N] for K stacked ones.

    Returns:
        The updates, of the same shape, and the state after them.
    """
    found = []
    for g, w in zip(gradients, weights, strict=True):
        moved, state = update(g, w, state)
        found.append(moved)
    return torch.stack(found), state
