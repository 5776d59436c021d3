"""What a network is, to a task: a pure function of its parameters and its inputs, with the parameters declared beside.

Layers are small frozen dataclasses that hold a name and sizes but no tensors. A network is a few of them and a
``__call__``; its ``specs`` are theirs put together, so that shapes, starting points and computation cannot disagree.

Everything is written in plain ``torch.nn.functional`` and works under ``torch.func.vmap`` and ``grad``, with parameters
and inputs both batched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from closedform.tasks._base import Params, Task


@dataclass(frozen=True)
class Spec:
    """A parameter: its shape, and the mean and standard deviation of its starting values."""

    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0


Specs = dict[str, Spec]


class Network(Protocol):
    """A pure function of parameters and inputs.

    Attributes:
        specs: Its parameters, in order.
    """

    specs: Specs

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        """The network's output, whose first axis is that of ``inputs``."""


class Layer(Protocol):
    """What ``collect`` reads."""

    @property
    def specs(self) -> Specs:
        """The layer's parameters, in order."""


def collect(*layers: Layer) -> Specs:
    """The parameters of several layers, in order."""
    return {name: spec for layer in layers for name, spec in layer.specs.items()}


class NetworkTask(Task):
    """A task whose parameters are those of a network."""

    specs: Specs

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: spec.shape for name, spec in self.specs.items()}

    def init(self, generator: torch.Generator) -> Params:
        return {name: self._draw(spec, generator) for name, spec in self.specs.items()}

    def _draw(self, spec: Spec, generator: torch.Generator) -> Tensor:
        if spec.std == 0:
            return torch.full(spec.shape, spec.mean, device=self.device, dtype=self.dtype)
        return self._normal(spec.shape, generator) * spec.std + spec.mean


@dataclass(frozen=True)
class Linear:
    """x W' + b. Weights start at N(0, gain^2 / inputs), biases at zero."""

    name: str
    inputs: int
    outputs: int
    gain: float = 1.0

    @property
    def specs(self) -> Specs:
        weight = Spec((self.outputs, self.inputs), self.gain / math.sqrt(self.inputs))
        return {f"{self.name}.weight": weight, f"{self.name}.bias": Spec((self.outputs,))}

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        return functional.linear(x, params[f"{self.name}.weight"], params[f"{self.name}.bias"])


@dataclass(frozen=True)
class LayerNorm:
    """Normalisation over the last axis."""

    name: str
    width: int

    @property
    def specs(self) -> Specs:
        shape = (self.width,)
        return {f"{self.name}.scale": Spec(shape, mean=1.0), f"{self.name}.shift": Spec(shape)}

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        scale, shift = params[f"{self.name}.scale"], params[f"{self.name}.shift"]
        return functional.layer_norm(x, (self.width,), scale, shift)
