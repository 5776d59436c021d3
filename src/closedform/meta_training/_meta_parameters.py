"""An optimizer's meta-parameters seen as one vector of D numbers, for estimators that move along directions of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from closedform.learned_optimizers import LearnedOptimizer


def trainable(optimizer: LearnedOptimizer) -> dict[str, nn.Parameter]:
    """The meta-parameters that are trained, under their names, in order."""
    return {name: value for name, value in optimizer.named_parameters() if value.requires_grad}


def count(optimizer: LearnedOptimizer) -> int:
    """D: how many numbers are trained."""
    return sum(value.numel() for value in trainable(optimizer).values())


def directions(optimizer: LearnedOptimizer, rows: Tensor) -> dict[str, Tensor]:
    """Rows of D numbers, [R, D], taken apart: R directions in the shape and type of each meta-parameter, [R, ...]."""
    parameters = trainable(optimizer)
    parts = rows.split([value.numel() for value in parameters.values()], dim=1)
    return {
        name: part.reshape(len(rows), *value.shape).to(value)
        for (name, value), part in zip(parameters.items(), parts, strict=True)
    }


def moved(optimizer: LearnedOptimizer, rows: Tensor) -> dict[str, Tensor]:
    """R copies of the meta-parameters, each moved by a row, [R, D]: under their names, [R, ...]."""
    parameters = trainable(optimizer)
    return {name: parameters[name].detach() + part for name, part in directions(optimizer, rows).items()}


def gradients(optimizer: LearnedOptimizer, vector: Tensor) -> tuple[Tensor, ...]:
    """A gradient of D numbers, [D], in the shapes and types of the meta-parameters."""
    return tuple(part[0] for part in directions(optimizer, vector[None]).values())


def perturbations(optimizer: LearnedOptimizer, pairs: int, std: float, generator: torch.Generator) -> Tensor:
    """Independent normal numbers, [pairs, D] float64, where the meta-parameters live."""
    noise = std * torch.randn(pairs, count(optimizer), generator=generator, dtype=torch.float64)
    return noise.to(next(iter(trainable(optimizer).values())).device)
