"""What a symbolic regression engine is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from closedform.distillation._config import DistillConfig
from closedform.distillation._tidy import scaled, tidy
from closedform.lang import Expr, Number, apply


@dataclass(frozen=True)
class Found:
    """A chunk's outcome: its front of equations, and 1 - R^2 of the best on the engine's rows."""

    generation: int
    error: float
    front: tuple[Expr, ...]


class Backend(Protocol):
    """A symbolic regression engine."""

    @property
    def name(self) -> str:
        """Its name; the stage of what it finds."""

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if the engine is not installed or lacks an operator."""

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Equations over the columns, front by front, until ``config.generations`` or ``deadline`` is reached."""


@dataclass(frozen=True)
class NoSearch:
    """The quick stages alone: the paper's family psi(G; W) and its kin."""

    name: str = "sparse"

    def check(self, config: DistillConfig) -> None:
        """It is always there."""

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        return iter(())


def unscaled(expr: Expr, centre: float, spread: float) -> Expr:
    """``spread * expr + centre``, tidied."""
    return tidy(apply("add", scaled(spread, expr), Number(centre)))
