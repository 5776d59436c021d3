"""Plain functions with known optima: no data, one parameter vector ``w``. For tests, and to see what a rule does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_number, check_seed
from closedform.tasks._base import Batch, Params, Task, with_options


@dataclass(frozen=True)
class QuadraticOptions:
    """What can be chosen about a quadratic.

    Attributes:
        dim: The number of parameters.
        condition: The Hessian's condition number; its eigenvalues, of which 1 is the largest, are log-spaced.
        seed: Which instance.
        horizon: Steps an episode.
    """

    dim: int = 10
    condition: float = 100.0
    seed: int = 0
    horizon: int = 100

    def __post_init__(self) -> None:
        check_count("dim", self.dim)
        check_seed("seed", self.seed)
        check_count("horizon", self.horizon)
        check_number("condition", self.condition, least=1)


class Quadratic(Task):
    """0.5 ||A w - b||^2 with b = A w*, so that the optimum is 0, at w*.

    A = U diag(sqrt(eigenvalues)) V' with random orthogonal U and V, and w* ~ N(0, I), all drawn from ``options.seed``:
    every episode sees the same instance, from its own starting point w ~ N(0, I). Another seed is another instance.

    Attributes:
        matrix: A, [dim, dim].
        target: b, [dim].
        solution: w*, [dim].
    """

    optimum = 0.0
    source = "standard test problem; in learning to optimize: Andrychowicz et al. 2016, section 3.1"

    def __init__(self, name: str, options: QuadraticOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options
        self._build()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (self.options.dim,)}

    def init(self, generator: torch.Generator) -> Params:
        return {"w": self._normal((self.options.dim,), generator)}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return 0.5 * (self.matrix @ params["w"] - self.target).square().sum()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Quadratic:
        moved = super().to(device, dtype)
        moved._build()
        return moved

    def _build(self) -> None:
        dim, condition = self.options.dim, self.options.condition
        generator = torch.Generator().manual_seed(self.options.seed)
        left, right = torch.linalg.qr(torch.randn(2, dim, dim, generator=generator, dtype=torch.float64)).Q
        eigenvalues = torch.logspace(0, -math.log10(condition), dim, dtype=torch.float64)
        matrix = left @ eigenvalues.sqrt().diag() @ right.T
        solution = torch.randn(dim, generator=generator, dtype=torch.float64)
        self.matrix = matrix.to(self.device, self.dtype)
        self.target = (matrix @ solution).to(self.device, self.dtype)
        self.solution = solution.to(self.device, self.dtype)


@dataclass(frozen=True)
class RosenbrockOptions:
    """What can be chosen about Rosenbrock's function: the number of parameters, and steps an episode."""

    dim: int = 2
    horizon: int = 400

    def __post_init__(self) -> None:
        check_count("dim", self.dim, least=2)
        check_count("horizon", self.horizon)


class Rosenbrock(Task):
    """sum_i 100 (w_{i+1} - w_i^2)^2 + (1 - w_i)^2: a long curved valley. The optimum is 0, at w = (1, ..., 1).

    Episodes start at w ~ U(-2, 2). From four parameters on there is a second, local minimum near (-1, 1, ..., 1).
    """

    optimum = 0.0
    source = "Rosenbrock 1960; in dim parameters: Shang & Qiu 2006"

    def __init__(self, name: str, options: RosenbrockOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (self.options.dim,)}

    def init(self, generator: torch.Generator) -> Params:
        uniform = torch.rand(self.options.dim, generator=generator, device=generator.device)
        return {"w": (4 * uniform - 2).to(self.device, self.dtype)}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        head, tail = params["w"][:-1], params["w"][1:]
        return (100 * (tail - head.square()).square() + (1 - head).square()).sum()


@dataclass(frozen=True)
class RastriginOptions:
    """What can be chosen about Rastrigin's function: the number of parameters, and steps an episode."""

    dim: int = 10
    horizon: int = 200

    def __post_init__(self) -> None:
        check_count("dim", self.dim)
        check_count("horizon", self.horizon)


class Rastrigin(Task):
    """sum_i w_i^2 + 10 (1 - cos(2 pi w_i)): a bowl full of dents, a local minimum near every point of whole numbers.

    Episodes start at w ~ U(-5.12, 5.12). The optimum is 0, at w = 0.
    """

    optimum = 0.0
    source = "Rastrigin 1974; in dim parameters: Muehlenbein, Schomisch & Born 1991"

    def __init__(self, name: str, options: RastriginOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (self.options.dim,)}

    def init(self, generator: torch.Generator) -> Params:
        uniform = torch.rand(self.options.dim, generator=generator, device=generator.device)
        return {"w": (10.24 * uniform - 5.12).to(self.device, self.dtype)}

    def loss(self, params: Params, batch: Batch) -> Tensor:
        w = params["w"]
        return (w.square() + 10 * (1 - (2 * math.pi * w).cos())).sum()


def quadratic(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A random quadratic of condition number 100, or of another one. ``data_dir`` is not needed."""
    return Quadratic("quadratic", with_options(QuadraticOptions(), options, "quadratic"))


def quadratic_10(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A random quadratic of condition number 10. ``data_dir`` is not needed."""
    return Quadratic("quadratic-10", with_options(QuadraticOptions(condition=10.0), options, "quadratic-10"))


def quadratic_1000(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A random quadratic of condition number 1000. ``data_dir`` is not needed."""
    return Quadratic("quadratic-1000", with_options(QuadraticOptions(condition=1000.0), options, "quadratic-1000"))


def rosenbrock(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """Rosenbrock's function. ``data_dir`` is not needed."""
    return Rosenbrock("rosenbrock", with_options(RosenbrockOptions(), options, "rosenbrock"))


def rastrigin(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """Rastrigin's function. ``data_dir`` is not needed."""
    return Rastrigin("rastrigin", with_options(RastriginOptions(), options, "rastrigin"))
