"""Recordings made by hand: gradients drawn at random, updates by a formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from closedform.trajectories import Trajectories, column_source, lagged, run_source, window_columns

Formula = Callable[[Callable[[int], Tensor]], Tensor]
MakeRecording = Callable[..., Trajectories]


def recording_of(
    formula: Formula,
    *,
    features: tuple[str, ...] = ("g",),
    window: int = 0,
    episodes: int = 4,
    steps: int = 60,
    coordinates: int = 12,
    scale: float = 1.0,
) -> Trajectories:
    """All steps of all coordinates as rows; ``formula`` gets g as a function of the lag, [E, T, C]."""
    generator = torch.Generator().manual_seed(3)
    g = scale * torch.randn(episodes, steps, coordinates, generator=generator, dtype=torch.float64)
    source = column_source(features)
    columns = window_columns(features, window)
    signals = run_source(source, g, torch.zeros_like(g))
    updates = formula(lambda lag: lagged(g, lag))
    cells = torch.ones_like(g).nonzero().unbind(dim=1)
    numbers = torch.arange(coordinates).expand(episodes, -1).contiguous()
    return Trajectories(
        columns=columns,
        features=torch.stack([lagged(signals[column.feature], column.lag)[cells] for column in columns], dim=1),
        updates=updates[cells],
        episode=cells[0].contiguous(),
        step=cells[1] + 1,
        coordinate=cells[2].contiguous(),
        layer=torch.zeros_like(cells[2]),
        source=source,
        gradients=g,
        weights=torch.zeros_like(g),
        episode_updates=updates,
        episodes=torch.arange(episodes),
        episode_coordinates=numbers,
        episode_layers=torch.zeros_like(numbers),
    )


@pytest.fixture
def make_recording() -> MakeRecording:
    return recording_of
