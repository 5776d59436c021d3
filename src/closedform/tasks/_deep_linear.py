"""A deep linear network: a product of matrices fitted to a linear map, with noise.

What it computes is linear, yet its loss is not convex in the matrices, and its gradients pass through plateaus and
saddles as those of deep networks do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_count, check_number, check_seed
from closedform.tasks._base import SPLITS, Batch, Params, Task, with_options
from closedform.tasks._dense import ACTIVATIONS, Dense
from closedform.tasks._network import NetworkTask


@dataclass(frozen=True)
class DeepLinearOptions:
    """What can be chosen about a deep linear network.

    Attributes:
        inputs, outputs: Of the map. Input k has standard deviation 1/k, k from 1: directions differ in curvature.
        width: Units of each hidden layer.
        layers: Matrices.
        noise: Standard deviation of an output's noise.
        rows: Examples in each of the three splits.
        seed: Which instance.
        batch_size: Examples a minibatch.
        horizon: Steps an episode.
    """

    inputs: int = 64
    outputs: int = 32
    width: int = 80
    layers: int = 8
    noise: float = 0.03
    rows: int = 4096
    seed: int = 0
    batch_size: int = 128
    horizon: int = 2000

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "width", "layers", "rows", "batch_size", "horizon"):
            check_count(name, getattr(self, name))
        check_seed("seed", self.seed)
        check_number("noise", self.noise, least=0)


class DeepLinear(NetworkTask):
    """The mean squared error of an output; weights start at N(0, 1/inputs), biases at zero.

    Args:
        name: The task's name.
        options: Instance, network, batch and episode.
    """

    source = "Saxe, McClelland & Ganguli 2014; synthetic data"

    def __init__(self, name: str, options: DeepLinearOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options
        hidden = [options.width] * (options.layers - 1)
        self.network = Dense((options.inputs, *hidden, options.outputs), ACTIVATIONS["linear"], None)
        self.specs = self.network.specs

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        inputs, targets = self.full(split)
        drawn = torch.randint(len(inputs), (self.options.batch_size,), generator=generator, device=generator.device)
        drawn = drawn.to(self.device)
        return inputs[drawn], targets[drawn]

    def full(self, split: str) -> Batch:
        """A split's inputs, [rows, inputs], and noisy targets, [rows, outputs]."""
        lookup("split", split, SPLITS)
        inputs, targets = self._data[split]
        return inputs.to(self.device, self.dtype), targets.to(self.device, self.dtype)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.mse_loss(self.network(params, batch[0]), batch[1])

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient by hand-written backpropagation; works under ``vmap`` too."""
        seen, output = self.network.trace(params, batch[0])
        error = output - batch[1]
        loss = error.square().mean()
        return loss, self.network.backward(params, seen, error.mul_(2 / error.numel()))

    @functools.cached_property
    def _data(self) -> dict[str, Batch]:
        options = self.options
        generator = torch.Generator().manual_seed(options.seed)
        truth = torch.randn(options.inputs, options.outputs, generator=generator)
        scales = torch.arange(1, options.inputs + 1).reciprocal()
        found: dict[str, Batch] = {}
        for split in SPLITS:
            inputs = scales * torch.randn(options.rows, options.inputs, generator=generator)
            noise = options.noise * torch.randn(options.rows, options.outputs, generator=generator)
            found[split] = (inputs, inputs @ truth + noise)
        return found


def deep_linear(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """Eight matrices of width 80 fitted to a map of 64 inputs and 32 outputs. ``data_dir`` is not needed."""
    return DeepLinear("deep-linear", with_options(DeepLinearOptions(), options, "deep-linear"))
