"""Small networks that the table of tasks does not have: perceptrons and ConvNets with normalisation, and a ViT."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from closedform.tasks._base import Params
from closedform.tasks._convolutions import BatchNorm, Conv
from closedform.tasks._network import Layer, LayerNorm, Linear, Spec, collect
from closedform.tasks._transformer import Block, TransformerOptions

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
}
"""Activations of these networks, by name."""
_GAINS = {"relu": math.sqrt(2), "tanh": 1.0, "gelu": math.sqrt(2), "silu": math.sqrt(2)}
NORMS = ("none", "layer", "batch")
"""What normalises the output of a hidden layer, before its activation."""


class Perceptron:
    """Fully connected layers, each hidden one followed by a normalisation and an activation.

    Args:
        widths: Numbers of inputs, of every hidden layer's units, and of outputs.
        activation: A name in ``SMOOTH``.
        norm: A name in ``NORMS``.
    """

    def __init__(self, widths: Sequence[int], activation: str, norm: str) -> None:
        *hidden, last = itertools.pairwise(widths)
        self.activation = SMOOTH[activation]
        self.hidden = [Linear(f"layer{i}", *sizes, gain=_GAINS[activation]) for i, sizes in enumerate(hidden, 1)]
        self.norms = [_norm(f"norm{i}", norm, width) for i, (_, width) in enumerate(hidden, 1)]
        self.head = Linear("head", *last)
        layers = [layer for pair in zip(self.hidden, self.norms, strict=True) for layer in pair if layer is not None]
        self.specs = collect(*layers, self.head)

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = inputs
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = layer(params, x)
            x = self.activation(x if norm is None else norm(params, x))
        return self.head(params, x)


def _norm(name: str, kind: str, width: int) -> LayerNorm | BatchNorm | None:
    return {"none": lambda: None, "layer": lambda: LayerNorm(name, width), "batch": lambda: BatchNorm(name, width)}[
        kind
    ]()


class SmallConvNet:
    """3x3 convolutions of stride 2, with or without batch normalisation, then the mean over places and a linear layer.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        channels: Of each convolution.
        activation: A name in ``SMOOTH``.
        normalised: Whether batch normalisation follows each convolution, which then has no bias.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, channels: Sequence[int], activation: str, normalised: bool
    ) -> None:
        self.shape = shape
        self.activation = SMOOTH[activation]
        pairs = enumerate(itertools.pairwise((shape[0], *channels)), start=1)
        self.convolutions = [Conv(f"conv{i}", *pair, stride=2, bias=not normalised) for i, pair in pairs]
        self.norms = [BatchNorm(f"norm{i}", width) if normalised else None for i, width in enumerate(channels, 1)]
        self.head = Linear("head", channels[-1], classes)
        blocks = zip(self.convolutions, self.norms, strict=True)
        self.specs = collect(*(layer for block in blocks for layer in block if layer is not None), self.head)

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = inputs.unflatten(-1, self.shape)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(params, x)
            x = self.activation(x if norm is None else norm(params, x))
        return self.head(params, x.mean((-2, -1)))


class SmallViT:
    """Square patches embedded, blocks of a Transformer without a mask, a normalisation, and the mean over patches.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        patch: Side of a patch, which divides rows and columns.
        width: Units.
        depth: Blocks.

    Source: Dosovitskiy et al. 2021, An image is worth 16x16 words, made small.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, patch: int, width: int, depth: int) -> None:
        channels, rows, columns = shape
        self.shape, self.patch = shape, patch
        tokens = (rows // patch) * (columns // patch)
        options = TransformerOptions(width=width, layers=depth, heads=2)
        self.embed = Linear("embed", channels * patch * patch, width)
        self.blocks = [Block(f"block{i}", options) for i in range(1, depth + 1)]
        self.norm = LayerNorm("norm", width)
        self.head = Linear("head", width, classes, gain=0.1)
        layers: list[Layer] = [self.embed, *self.blocks, self.norm, self.head]
        self.specs = {"place": Spec((tokens, width), 0.1), **collect(*layers)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = self.embed(params, self._patches(inputs)) + params["place"]
        mask = torch.zeros((), dtype=x.dtype, device=x.device)
        for block in self.blocks:
            x = block(params, x, mask)
        return self.head(params, self.norm(params, x).mean(-2))

    def _patches(self, inputs: Tensor) -> Tensor:
        """[batch, pixels] -> [batch, patches, numbers of a patch]."""
        _, rows, columns = self.shape
        side = self.patch
        x = inputs.unflatten(-1, (-1, rows // side, side, columns // side, side))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
