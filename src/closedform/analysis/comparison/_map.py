"""A map of optimizers: near each other are those that answer alike to the same gradients.

All are run over the gradients and parameters that one of them met. Of each the updates of every step are brought to
length 1, so that learning rates and schedules do not count, only directions; between two of them

    d = sqrt(2 - 2 c),     c the mean over steps of the cosine between their updates,

is the distance of the directions laid end to end: 0 for the same, sqrt(2) for unrelated ones, 2 for opposite ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Map:
    """Points in the plane.

    Attributes:
        names: Who is where.
        distances: [K, K], between answers.
        x, y: [K] each.
        share: Of the squared distances, what the plane holds; 1 if the map is true.
    """

    names: tuple[str, ...]
    distances: tuple[tuple[float, ...], ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    share: float


def distances(updates: Mapping[str, Tensor]) -> Map | None:
    """The map of optimizers by their updates over one tape.

    Args:
        updates: Name -> [T, N], not all zero.

    Returns:
        The map; None for fewer than two.
    """
    if len(updates) < 2:
        return None
    names, rows = list(updates), [_directions(value) for value in updates.values()]
    cosines = np.array([[float((a * b).sum()) / max(_moving(a, b), 1) for b in rows] for a in rows])
    found = np.sqrt(np.clip(2 - 2 * cosines, 0, None))
    np.fill_diagonal(found, 0.0)
    points, share = classical_scaling(found)
    return Map(
        tuple(names),
        tuple(map(tuple, found.tolist())),
        tuple(points[:, 0].tolist()),
        tuple(points[:, 1].tolist()),
        share,
    )


def classical_scaling(found: np.ndarray) -> tuple[np.ndarray, float]:
    """Points in the plane whose distances are nearest to given ones (Torgerson 1952, classical scaling).

    Args:
        found: [K, K], symmetric.

    Returns:
        [K, 2], turned so that the first entry that is not zero is positive on both axes, and the share of the
        variance that the two axes hold.
    """
    count = len(found)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-0.5 * centre @ np.square(found) @ centre)
    order = np.argsort(values)[::-1]
    values, vectors = np.clip(values[order], 0, None), vectors[:, order]
    points = np.zeros((count, 2))
    points[:, : min(2, count)] = vectors[:, :2] * np.sqrt(values[:2])
    for axis in points.T:
        far = np.flatnonzero(np.abs(axis) > 1e-9)
        if len(far) and axis[far[0]] < 0:
            axis *= -1
    total = values.sum()
    return points, float(values[:2].sum() / total) if total > 0 else 1.0


def _directions(updates: Tensor) -> Tensor:
    """Each step's update at length 1; zero where there is none."""
    length = updates.norm(dim=1, keepdim=True)
    return updates / length.clamp(min=1e-300)


def _moving(a: Tensor, b: Tensor) -> int:
    """Steps in which one of them moves."""
    return int(((a != 0).any(1) | (b != 0).any(1)).sum())
