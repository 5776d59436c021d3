"""Residual networks for small images (28x28 and 32x32), as is usual there: a 3x3 stem at full size, no first pooling.

With ``width=64`` they have exactly the layers of He et al.'s networks of that depth; a smaller width gives the same
network with proportionally fewer channels. See ``BatchNorm`` about the normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._names import lookup
from closedform._options import check_count
from closedform.tasks._base import Params
from closedform.tasks._convolutions import ConvNorm
from closedform.tasks._image_task import BatchNormClassifyTask, ImageOptions, image_members
from closedform.tasks._images import ImageSource
from closedform.tasks._network import Layer, Linear, collect


@dataclass(frozen=True)
class Design:
    """The blocks of each stage, and how many times wider than inside a block is between blocks (1: basic blocks)."""

    blocks: tuple[int, ...]
    expansion: int


DESIGNS: dict[str, Design] = {
    "10": Design((1, 1, 1, 1), 1),
    "18": Design((2, 2, 2, 2), 1),
    "34": Design((3, 4, 6, 3), 1),
    "50": Design((3, 4, 6, 3), 4),
    "101": Design((3, 4, 23, 3), 4),
    "152": Design((3, 8, 36, 3), 4),
}


@dataclass(frozen=True)
class ResNetOptions(ImageOptions):
    """What can be chosen about a residual network.

    Attributes:
        depth: Its number of layers, one of those in ``DESIGNS``.
        width: Channels of the first stage; every later stage doubles them.
    """

    black: float = -0.5
    depth: int = 18
    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        lookup("depth", str(self.depth), DESIGNS)
        check_count("width", self.width)


class Block:
    """Convolutions around which the input is carried, through a 1x1 convolution where sizes differ.

    Args:
        name: Prefix of its parameters' names.
        inputs: Channels that come in.
        width: Channels inside.
        stride: Of the 3x3 convolution that may halve the image.
        expansion: 1 for two 3x3 convolutions; else 1x1, 3x3, 1x1 with ``expansion * width`` channels out.
    """

    def __init__(self, name: str, inputs: int, width: int, stride: int, expansion: int) -> None:
        self.outputs = expansion * width
        if expansion == 1:
            self.body = [
                ConvNorm(f"{name}.1", inputs, width, stride=stride),
                ConvNorm(f"{name}.2", width, width, rectifier="none"),
            ]
        else:
            self.body = [
                ConvNorm(f"{name}.1", inputs, width, kernel=1),
                ConvNorm(f"{name}.2", width, width, stride=stride),
                ConvNorm(f"{name}.3", width, self.outputs, kernel=1, rectifier="none"),
            ]
        same = stride == 1 and inputs == self.outputs
        shortcut = ConvNorm(f"{name}.shortcut", inputs, self.outputs, kernel=1, stride=stride, rectifier="none")
        self.shortcut = None if same else shortcut
        self.specs = collect(*self.body, *([] if same else [shortcut]))

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        carried = x if self.shortcut is None else self.shortcut(params, x)
        for layer in self.body:
            x = layer(params, x)
        return torch.relu(x + carried)


class ResNet:
    """A stem, four stages of blocks, the mean over the image, and a linear layer.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        design: Blocks.
        width: Channels of the first stage.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, design: Design, width: int) -> None:
        self.shape = shape
        self.stem = ConvNorm("stem", shape[0], width)
        self.blocks: list[Block] = []
        channels = width
        for stage, count in enumerate(design.blocks):
            for index in range(count):
                stride = 2 if stage and not index else 1
                name = f"stage{stage + 1}.block{index + 1}"
                block = Block(name, channels, width << stage, stride, design.expansion)
                self.blocks.append(block)
                channels = block.outputs
        self.head = Linear("head", channels, classes)
        layers: list[Layer] = [self.stem, *self.blocks, self.head]
        self.specs = collect(*layers)

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = self.stem(params, inputs.unflatten(-1, self.shape))
        for block in self.blocks:
            x = block(params, x)
        return self.head(params, x.mean(dim=(-2, -1)))


def _resnet(name: str, images: ImageSource, options: ResNetOptions, source: str) -> BatchNormClassifyTask:
    network = ResNet(images.shape, images.classes, DESIGNS[str(options.depth)], options.width)
    return BatchNormClassifyTask(name, images, network, options, source)


_SOURCE = "He et al. 2016"

RESNETS = image_members(
    _resnet,
    {
        "resnet10-small-fashion-mnist": (
            "fashion-mnist-14x14",
            ResNetOptions(depth=10, width=8, batch_size=32, horizon=800),
            f"{_SOURCE}, made small",
        ),
        "resnet18-mnist": ("mnist", ResNetOptions(), _SOURCE),
        "resnet18-fashion-mnist": ("fashion-mnist", ResNetOptions(), _SOURCE),
        "resnet18-cifar10": ("cifar10", ResNetOptions(), _SOURCE),
        "resnet18-cifar100": ("cifar100", ResNetOptions(), _SOURCE),
        "resnet50-mnist": ("mnist", ResNetOptions(depth=50), _SOURCE),
        "resnet50-fashion-mnist": ("fashion-mnist", ResNetOptions(depth=50), _SOURCE),
        "resnet50-cifar10": ("cifar10", ResNetOptions(depth=50), _SOURCE),
        "resnet50-cifar100": ("cifar100", ResNetOptions(depth=50), _SOURCE),
    },
)
