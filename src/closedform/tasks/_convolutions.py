"""Layers of networks for images: convolutions and batch normalisation, on [batch, channels, height, width]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform.tasks._base import Params
from closedform.tasks._network import Spec, Specs, collect


@dataclass(frozen=True)
class Conv:
    """A square convolution that keeps the image's size (at stride 1). Weights start as He et al. 2015 draw them."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = True

    @property
    def specs(self) -> Specs:
        shape = (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        weight = {f"{self.name}.weight": Spec(shape, math.sqrt(2 / math.prod(shape[1:])))}
        return {**weight, f"{self.name}.bias": Spec((self.outputs,))} if self.bias else weight

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        weight, bias = params[f"{self.name}.weight"], params.get(f"{self.name}.bias")
        return functional.conv2d(x, weight, bias, self.stride, self.kernel // 2, groups=self.groups)


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation by the statistics of the minibatch at hand, always: there are no running averages.

    So the loss stays a pure function of parameters and batch. Test images too are normalised by the minibatch they come
    in, and a minibatch needs two images or more.
    """

    name: str
    channels: int

    @property
    def specs(self) -> Specs:
        shape = (self.channels,)
        return {f"{self.name}.scale": Spec(shape, mean=1.0), f"{self.name}.shift": Spec(shape)}

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        scale, shift = params[f"{self.name}.scale"], params[f"{self.name}.shift"]
        return functional.batch_norm(x, None, None, scale, shift, training=True)


def _identity(x: Tensor) -> Tensor:
    return x


RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": _identity,
    "relu": torch.relu,
    "relu6": functional.relu6,
}


@dataclass(frozen=True)
class ConvNorm:
    """A convolution without bias, batch normalisation, and a function in ``RECTIFIERS``."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    rectifier: str = "relu"

    @property
    def specs(self) -> Specs:
        return collect(*self._layers)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        conv, norm = self._layers
        return RECTIFIERS[self.rectifier](norm(params, conv(params, x)))

    @property
    def _layers(self) -> tuple[Conv, BatchNorm]:
        conv = Conv(f"{self.name}.conv", self.inputs, self.outputs, self.kernel, self.stride, self.groups, bias=False)
        return conv, BatchNorm(f"{self.name}.norm", self.outputs)
