"""LASSO: least squares with an absolute-value penalty, whose exact minimum is worked out beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_number, check_seed
from closedform.errors import OptionError
from closedform.tasks._base import Batch, Params, Task, with_options

_LEAST_PENALTY = 1e-4
_ROUND = 100  # proximal steps between two attempts at the exact solution
_ROUNDS = 2000
_CLOSE = 1e-9  # relative difference in the conditions of optimality


@dataclass(frozen=True)
class LassoOptions:
    """What can be chosen about LASSO.

    Attributes:
        rows: Observations.
        dim: The number of parameters.
        nonzeros: How many of the true parameters are not zero.
        penalty: The factor of the absolute values, at least 1e-4.
        noise: Standard deviation of the observations' noise.
        seed: Which instance.
        horizon: Steps an episode.
    """

    rows: int = 25
    dim: int = 50
    nonzeros: int = 5
    penalty: float = 0.005
    noise: float = 0.01
    seed: int = 0
    horizon: int = 200

    def __post_init__(self) -> None:
        check_count("rows", self.rows)
        check_count("dim", self.dim)
        check_count("nonzeros", self.nonzeros, least=0)
        check_seed("seed", self.seed)
        check_count("horizon", self.horizon)
        check_number("penalty", self.penalty, least=_LEAST_PENALTY)
        check_number("noise", self.noise, least=0)
        if self.nonzeros > self.dim:
            raise OptionError(f"nonzeros must be at most dim, which is {self.dim}, not {self.nonzeros}")


class Lasso(Task):
    """0.5 ||A w - b||^2 + penalty ||w||_1 with b = A x + noise, for a sparse x.

    A's columns are random directions of length 1. Every episode sees the same instance, drawn from ``options.seed``,
    from its own starting point w ~ N(0, I).

    Attributes:
        matrix: A, [rows, dim].
        target: b, [rows].
        truth: x, [dim].
    """

    source = "Tibshirani 1996; in learning to optimize: Chen et al. 2022, A primer and a benchmark"

    def __init__(self, name: str, options: LassoOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options
        self._build()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (self.options.dim,)}

    @cached_property
    def solution(self) -> Tensor:
        """The minimum's place, [dim] float64, to machine precision."""
        return lasso_solution(self._exact[0], self._exact[1], self.options.penalty)

    @cached_property
    def optimum(self) -> float:
        """The smallest loss there is."""
        return float(_value(*self._exact, self.solution, self.options.penalty))

    def init(self, generator: torch.Generator) -> Params:
        return {"w": self._normal((self.options.dim,), generator)}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return _value(self.matrix, self.target, params["w"], self.options.penalty)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Lasso:
        moved = super().to(device, dtype)
        moved._build()
        return moved

    def _build(self) -> None:
        options = self.options
        generator = torch.Generator().manual_seed(options.seed)
        drawn = torch.randn(options.rows, options.dim, generator=generator, dtype=torch.float64)
        matrix = drawn / drawn.norm(dim=0)
        truth = torch.randn(options.dim, generator=generator, dtype=torch.float64)
        truth[torch.randperm(options.dim, generator=generator)[options.nonzeros :]] = 0
        noise = torch.randn(options.rows, generator=generator, dtype=torch.float64)
        self._exact = (matrix, matrix @ truth + options.noise * noise)
        self.matrix, self.target = (value.to(self.device, self.dtype) for value in self._exact)
        self.truth = truth.to(self.device, self.dtype)


def lasso_solution(matrix: Tensor, target: Tensor, penalty: float) -> Tensor:
    """The w that minimises 0.5 ||A w - b||^2 + penalty ||w||_1.

    Proximal gradient steps with momentum and restarts find out which w are not zero, and their signs; then these are
    the solution of a linear system. It is done when that solution meets the conditions of optimality.

    Args:
        matrix: A, [rows, dim] float64.
        target: b, [rows] float64.
        penalty: Above zero.

    Returns:
        w, [dim], to machine precision.

    Raises:
        OptionError: none was found; the instance is degenerate.

    Source: Beck & Teboulle 2009 (FISTA); O'Donoghue & Candes 2015 (restarts).
    """
    step = 1 / float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    w = ahead = torch.zeros(matrix.shape[1], dtype=matrix.dtype)
    momentum = 1.0
    for _ in range(_ROUNDS):
        for _ in range(_ROUND):
            moved = ahead - step * (matrix.T @ (matrix @ ahead - target))
            new = torch.nn.functional.softshrink(moved, step * penalty)
            if torch.dot(ahead - new, new - w) > 0:
                momentum = 1.0
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + (momentum - 1) / following * (new - w)
            w, momentum = new, following
        exact = _on_support(matrix, target, penalty, w.sign())
        if exact is not None:
            return exact
    raise OptionError("this instance of LASSO is degenerate: no exact minimum was found; choose another seed")


def _on_support(matrix: Tensor, target: Tensor, penalty: float, signs: Tensor) -> Tensor | None:
    """The minimum, if it has these signs; None if it has not."""
    support = signs != 0
    part = matrix[:, support]
    solved = torch.linalg.lstsq(part.T @ part, part.T @ target - penalty * signs[support]).solution
    w = torch.zeros_like(signs)
    w[support] = solved
    slope = matrix.T @ (target - matrix @ w)
    flat = bool((slope[~support].abs() <= penalty * (1 + _CLOSE)).all())
    level = torch.allclose(slope[support], penalty * signs[support], rtol=_CLOSE, atol=0)
    return w if flat and level and torch.equal(w.sign(), signs) else None


def _value(matrix: Tensor, target: Tensor, w: Tensor, penalty: float) -> Tensor:
    return 0.5 * (matrix @ w - target).square().sum() + penalty * w.abs().sum()


def lasso(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A random LASSO with its exact minimum. ``data_dir`` is not needed."""
    return Lasso("lasso", with_options(LassoOptions(), options, "lasso"))
