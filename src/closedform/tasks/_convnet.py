"""Small convolutional networks: 3x3 convolutions of stride 2 with ReLU, and one linear layer on top; no normalisation.

Striding does what pooling would do, at a sixth of the time that convolutions of full size with pooling take on a CPU.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.tasks._base import Params
from closedform.tasks._convolutions import Conv
from closedform.tasks._image_task import ClassifyTask, ImageOptions, image_members
from closedform.tasks._images import ImageSource
from closedform.tasks._network import Linear, collect


@dataclass(frozen=True)
class ConvNetOptions(ImageOptions):
    """What can be chosen about a ConvNet.

    Attributes:
        channels: Of each convolution; every one halves the image.
    """

    black: float = -0.5
    channels: tuple[int, ...] = (16, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.channels, (tuple, list)) or not self.channels:
            raise OptionError(f"channels must be a list of numbers such as (16, 32), not {self.channels!r}")
        for count in self.channels:
            check_count("a convolution's number of channels", count)


class ConvNet:
    """Convolutions that halve the image, then a linear layer.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        channels: Of each convolution.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, channels: tuple[int, ...]) -> None:
        self.shape = shape
        rows, columns = (-(-length // 2 ** len(channels)) for length in shape[1:])
        pairs = enumerate(itertools.pairwise((shape[0], *channels)), start=1)
        self.convolutions = [Conv(f"conv{i}", inputs, outputs, stride=2) for i, (inputs, outputs) in pairs]
        self.head = Linear("head", channels[-1] * rows * columns, classes)
        self.specs = collect(*self.convolutions, self.head)

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = inputs.unflatten(-1, self.shape)
        for convolution in self.convolutions:
            x = torch.relu(convolution(params, x))
        return self.head(params, x.flatten(1))


def _convnet(name: str, images: ImageSource, options: ConvNetOptions, source: str) -> ClassifyTask:
    network = ConvNet(images.shape, images.classes, tuple(options.channels))
    return ClassifyTask(name, images, network, options, source)


_SOURCE = "after Springenberg et al. 2015's all-convolutional net, made small"

CONVNETS = image_members(
    _convnet,
    {
        "conv-digits": ("digits", ConvNetOptions(horizon=200), _SOURCE),
        "conv-mnist": ("mnist", ConvNetOptions(), _SOURCE),
        "conv-fashion-mnist": ("fashion-mnist", ConvNetOptions(), _SOURCE),
        "conv-cifar10": ("cifar10", ConvNetOptions(channels=(16, 32, 64)), _SOURCE),
    },
)
