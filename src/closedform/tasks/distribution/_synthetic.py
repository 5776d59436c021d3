"""Problems without data files: regression by a network, least squares of a given spectrum, matrix factorisation.

Their batches are drawn without end from a distribution that the problem's seed fixes; so the splits differ in nothing
but the sample that ``full`` gives. All write their gradients by hand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_count, check_number, check_seed
from closedform.tasks._base import SPLITS, Batch, Params, Task
from closedform.tasks._dense import ACTIVATIONS, Dense, check_hidden
from closedform.tasks._network import NetworkTask

FULL = 1024
"""Rows of ``full``."""


def _full_generator(seed: int, split: str) -> torch.Generator:
    lookup("split", split, SPLITS)
    return torch.Generator().manual_seed(1 + len(SPLITS) * seed + list(SPLITS).index(split))


@dataclass(frozen=True)
class RegressionOptions:
    """What can be chosen about regression.

    Attributes:
        inputs, outputs: Numbers of each; those of ``diabetes`` are 10 and 1.
        hidden: Widths of the student's hidden layers.
        activation: A name in ``ACTIVATIONS``.
        noise: Standard deviation of what is added to the teacher's outputs, which have about size 1.
        batch_size: Rows a minibatch.
        seed: Which teacher.
        horizon: Steps an episode.
    """

    inputs: int = 16
    outputs: int = 4
    hidden: tuple[int, ...] = (32,)
    activation: str = "tanh"
    noise: float = 0.1
    batch_size: int = 32
    seed: int = 0
    horizon: int = 200

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "batch_size", "horizon"):
            check_count(name, getattr(self, name))
        check_seed("seed", self.seed)
        check_number("noise", self.noise, least=0)
        check_hidden(self.hidden)
        lookup("activation", self.activation, ACTIVATIONS)


class Regression(NetworkTask):
    """A student network fitted to rows (x, y) by mean squared error over rows and outputs. Subclasses give the rows."""

    def __init__(self, name: str, options: RegressionOptions, source: str, data: str = "none") -> None:
        self.name, self.source, self.data = name, source, data
        self.horizon = options.horizon
        self.options = options
        widths = (options.inputs, *options.hidden, options.outputs)
        self._network = Dense(widths, ACTIVATIONS[options.activation], None)
        self.specs = self._network.specs

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.mse_loss(self._network(params, batch[0]), batch[1])

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient by hand-written backpropagation; works under ``vmap`` too."""
        seen, output = self._network.trace(params, batch[0])
        error = output - batch[1]
        loss = error.square().mean()
        return loss, self._network.backward(params, seen, error * (2 / error.numel()))


class TeacherStudent(Regression):
    """y = teacher(x) + noise * N(0, 1), x ~ N(0, 1): a random network of 16 tanh units is the teacher."""

    def __init__(self, options: RegressionOptions) -> None:
        super().__init__("regression", options, "Saad & Solla 1995, teacher and student")
        self._teacher = Dense((options.inputs, 16, options.outputs), ACTIVATIONS["tanh"], None)

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        lookup("split", split, SPLITS)
        return self._rows(self.options.batch_size, generator)

    def full(self, split: str) -> Batch:
        return self._rows(FULL, _full_generator(self.options.seed, split))

    def _rows(self, count: int, generator: torch.Generator) -> Batch:
        x = self._normal((count, self.options.inputs), generator)
        noise = self._normal((count, self.options.outputs), generator)
        return x, self._network_of_teacher(x) + self.options.noise * noise

    def _network_of_teacher(self, x: Tensor) -> Tensor:
        return self._teacher({name: value.to(x) for name, value in self._teacher_weights.items()}, x)

    @functools.cached_property
    def _teacher_weights(self) -> Params:
        generator = torch.Generator().manual_seed(self.options.seed)
        specs = self._teacher.specs
        return {name: 2 * spec.std * torch.randn(spec.shape, generator=generator) for name, spec in specs.items()}


class Diabetes(Regression):
    """How the illness of 442 patients went on, from ten measurements; all standardised. The data ship in scikit-learn.

    Source: B. Efron et al., "Least angle regression", Annals of Statistics 2004.
    """

    def __init__(self, options: RegressionOptions) -> None:
        super().__init__("diabetes", options, "Efron et al. 2004, in scikit-learn", "diabetes")
        self._splits: dict[str, Batch] = {}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        x, y = self.full(split)
        size = (self.options.batch_size,)
        rows = torch.randint(len(y), size, generator=generator, device=generator.device).to(self.device)
        return x.index_select(0, rows), y.index_select(0, rows)

    def full(self, split: str) -> Batch:
        if split not in self._splits:
            place = list(SPLITS).index(split) if split in SPLITS else lookup("split", split, {})
            parts = torch.tensor_split(self._standardised, (177, 354))
            rows = parts[place].to(self.device, self.dtype)
            self._splits[split] = (rows[:, :-1], rows[:, -1:])
        return self._splits[split]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Diabetes:
        moved = super().to(device, dtype)
        moved._splits = {}
        return moved

    @functools.cached_property
    def _standardised(self) -> Tensor:
        """[442, 11] float64 in a fixed random order, every column of mean 0 and deviation 1; the target is the last."""
        from sklearn.datasets import load_diabetes

        table = load_diabetes()
        x, y = torch.as_tensor(table.data), torch.as_tensor(table.target)
        rows = torch.cat([x, y[:, None]], dim=1).double()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        return ((rows - rows.mean(0)) / rows.std(0))[order]


class LeastSquares(Task):
    """Mean of 0.5 (x . (w - w*) - noise N(0, 1))^2 over a minibatch of x ~ N(0, H): a quadratic with noisy gradients.

    The Hessian H has the spectrum given, in a random basis; episodes start at N(0, 1), and w* ~ N(0, 1).

    Args:
        spectrum: Eigenvalues of H, from 0 on.
        noise: Standard deviation of the noise of a row.
        batch_size: Rows a minibatch.
        seed: Which basis and w*.
        horizon: Steps an episode.
    """

    source = "standard test problem: stochastic least squares"

    def __init__(self, spectrum: Sequence[float], noise: float, batch_size: int, seed: int, horizon: int = 200) -> None:
        self.name = "least-squares"
        self.horizon = horizon
        self.options = (tuple(spectrum), noise, batch_size, seed)
        self.spectrum, self.noise, self.batch_size, self.seed = tuple(spectrum), noise, batch_size, seed
        generator = torch.Generator().manual_seed(seed)
        size = len(self.spectrum)
        basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        root = torch.tensor(self.spectrum, dtype=torch.float64).sqrt()
        self._factor = basis * root  # [N, N]; x = factor z
        self._solution = torch.randn(size, generator=generator, dtype=torch.float64)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (len(self.spectrum),)}

    def init(self, generator: torch.Generator) -> Params:
        return {"w": self._normal((len(self.spectrum),), generator)}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        lookup("split", split, SPLITS)
        return self._rows(self.batch_size, generator)

    def full(self, split: str) -> Batch:
        return self._rows(FULL, _full_generator(self.seed, split))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return 0.5 * (batch[0] @ params["w"] - batch[1]).square().mean()

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        error = batch[0] @ params["w"] - batch[1]
        return 0.5 * error.square().mean(), {"w": error @ batch[0] / len(error)}

    def _rows(self, count: int, generator: torch.Generator) -> Batch:
        x = self._normal((count, len(self.spectrum)), generator) @ self._factor.T.to(self.device, self.dtype)
        noise = self._normal((count,), generator)
        return x, x @ self._solution.to(self.device, self.dtype) + self.noise * noise


class Factorisation(Task):
    """Mean of (U V' - M - noise E)^2 over entries, E ~ N(0, 1) fresh at every step: M, [rows, columns], has low rank.

    Args:
        rows, columns, rank: Sizes; U is [rows, width], V [columns, width].
        width: Columns of U and V; more than ``rank`` makes it overparametrised.
        noise: Standard deviation of the noise of an entry; M's entries have size 1.
        seed: Which M.
        horizon: Steps an episode.
    """

    source = "standard test problem: low-rank matrix factorisation (Koren, Bell & Volinsky 2009)"

    def __init__(
        self, rows: int, columns: int, rank: int, width: int, noise: float, seed: int, horizon: int = 200
    ) -> None:
        self.name = "factorisation"
        self.horizon = horizon
        self.options = (rows, columns, rank, width, noise, seed)
        self.rows, self.columns, self.width, self.noise, self.seed = rows, columns, width, noise, seed
        generator = torch.Generator().manual_seed(seed)
        left, right = (torch.randn(side, rank, generator=generator) for side in (rows, columns))
        self._matrix = left @ right.T / math.sqrt(rank)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"u": (self.rows, self.width), "v": (self.columns, self.width)}

    def init(self, generator: torch.Generator) -> Params:
        scale = self.width**-0.25
        return {name: 0.3 * scale * self._normal(shape, generator) for name, shape in self.shapes.items()}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        lookup("split", split, SPLITS)
        matrix = self._matrix.to(self.device, self.dtype)
        return (matrix + self.noise * self._normal((self.rows, self.columns), generator),)

    def full(self, split: str) -> Batch:
        lookup("split", split, SPLITS)
        return (self._matrix.to(self.device, self.dtype),)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return (params["u"] @ params["v"].T - batch[0]).square().mean()

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        error = params["u"] @ params["v"].T - batch[0]
        slope = error * (2 / error.numel())
        return error.square().mean(), {"u": slope @ params["v"], "v": slope.T @ params["u"]}
