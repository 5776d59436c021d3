"""Matrix factorisation: guess the entries of a large matrix of low rank from some noisy ones, a minibatch at a time.

The model of recommender systems. A step's gradient is zero but for the rows and columns in the minibatch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from closedform._names import lookup
from closedform._options import check_count, check_number, check_seed
from closedform.tasks._base import SPLITS, Batch, Params, Task, with_options

T = TypeVar("T", bound="Factorisation")


@dataclass(frozen=True)
class FactorisationOptions:
    """What can be chosen about a factorisation.

    Attributes:
        rows, columns: Of the matrix.
        rank: Of the truth.
        width: Of the factors, at least ``rank`` where the truth should be within reach.
        noise: Standard deviation of an entry's noise; entries without it have 1.
        observed: Entries in each of the three splits.
        seed: Which instance.
        batch_size: Entries a minibatch.
        horizon: Steps an episode.
    """

    rows: int = 1000
    columns: int = 600
    rank: int = 8
    width: int = 16
    noise: float = 0.3
    observed: int = 120_000
    seed: int = 0
    batch_size: int = 2048
    horizon: int = 1500

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "rank", "width", "observed", "batch_size", "horizon"):
            check_count(name, getattr(self, name))
        check_seed("seed", self.seed)
        check_number("noise", self.noise, least=0)


class Factorisation(Task):
    """The mean squared error of (U V')[i, j] over entries (i, j); U [rows, width] and V [columns, width].

    Entries are drawn with replacement; each split has its own, with its own noise. Episodes start at N(0, 0.1^2).

    Args:
        name: The task's name.
        options: Instance, factors, batch and episode.
    """

    source = "Koren, Bell & Volinsky 2009, equation 2 without penalty; synthetic data"

    def __init__(self, name: str, options: FactorisationOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"rows": (self.options.rows, self.options.width), "columns": (self.options.columns, self.options.width)}

    def init(self, generator: torch.Generator) -> Params:
        return {name: 0.1 * self._normal(shape, generator) for name, shape in self.shapes.items()}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        places, entries = self.full(split)
        drawn = torch.randint(len(entries), (self.options.batch_size,), generator=generator, device=generator.device)
        drawn = drawn.to(self.device)
        return places[drawn], entries[drawn]

    def full(self, split: str) -> Batch:
        """A split's places, [observed, 2] of row and column, and noisy entries, [observed]."""
        lookup("split", split, SPLITS)
        places, entries = self._data[split]
        return places.to(self.device), entries.to(self.device, self.dtype)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        places, entries = batch
        rows, columns = params["rows"][places[..., 0]], params["columns"][places[..., 1]]
        return ((rows * columns).sum(dim=-1) - entries).square().mean()

    @functools.cached_property
    def _data(self) -> dict[str, Batch]:
        options = self.options
        generator = torch.Generator().manual_seed(options.seed)
        left = torch.randn(options.rows, options.rank, generator=generator)
        right = torch.randn(options.columns, options.rank, generator=generator) / math.sqrt(options.rank)
        found: dict[str, Batch] = {}
        for split in SPLITS:
            i, j = (torch.randint(n, (options.observed,), generator=generator) for n in (options.rows, options.columns))
            noise = options.noise * torch.randn(options.observed, generator=generator)
            found[split] = (torch.stack([i, j], dim=-1), (left[i] * right[j]).sum(dim=-1) + noise)
        return found


def factorisation(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A matrix of 1000 by 600 and rank 8, by factors of width 16. ``data_dir`` is not needed."""
    return Factorisation("factorisation", with_options(FactorisationOptions(), options, "factorisation"))
