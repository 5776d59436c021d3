"""MobileNetV2 for small images (28x28 and 32x32): the strides of the stem and the second stage are 1 instead of 2.

``width=32`` is the published network; a smaller one has proportionally fewer channels. See ``BatchNorm`` about the
normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from closedform._options import check_count
from closedform.tasks._base import Params
from closedform.tasks._convolutions import ConvNorm
from closedform.tasks._image_task import BatchNormClassifyTask, ImageOptions, image_members
from closedform.tasks._images import ImageSource
from closedform.tasks._network import Layer, Linear, collect

_PUBLISHED_WIDTH = 32

# Expansion, channels out, blocks, first stride: table 2 of the paper, with two strides changed.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280


@dataclass(frozen=True)
class MobileNetOptions(ImageOptions):
    """What can be chosen about MobileNetV2.

    Attributes:
        width: Channels of the stem, in proportion to which all others are.
    """

    black: float = -0.5
    width: int = _PUBLISHED_WIDTH

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)


class InvertedResidual:
    """1x1 up to many channels, 3x3 in each of them, 1x1 down, and the input added where sizes agree.

    Args:
        name: Prefix of its parameters' names.
        inputs: Channels that come in.
        outputs: Channels that go out.
        expansion: Channels inside over channels in.
        stride: Of the 3x3 convolution.
    """

    def __init__(self, name: str, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        inside = expansion * inputs
        up = [ConvNorm(f"{name}.up", inputs, inside, kernel=1, rectifier="relu6")] if expansion > 1 else []
        self.body = [
            *up,
            ConvNorm(f"{name}.each", inside, inside, stride=stride, groups=inside, rectifier="relu6"),
            ConvNorm(f"{name}.down", inside, outputs, kernel=1, rectifier="none"),
        ]
        self.carries = stride == 1 and inputs == outputs
        self.specs = collect(*self.body)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        carried = x
        for layer in self.body:
            x = layer(params, x)
        return x + carried if self.carries else x


class MobileNetV2:
    """A stem, seven stages of inverted residuals, a last 1x1 convolution, the mean over the image, a linear layer.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        width: Channels of the stem.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        self.shape = shape
        self.stem = ConvNorm("stem", shape[0], width, rectifier="relu6")
        self.blocks: list[InvertedResidual] = []
        channels = width
        for stage, (expansion, published, count, first_stride) in enumerate(STAGES, start=1):
            outputs = _scaled(published, width)
            for index in range(1, count + 1):
                stride = first_stride if index == 1 else 1
                name = f"stage{stage}.block{index}"
                self.blocks.append(InvertedResidual(name, channels, outputs, expansion, stride))
                channels = outputs
        self.last = ConvNorm("last", channels, _scaled(LAST, width), kernel=1, rectifier="relu6")
        self.head = Linear("head", self.last.outputs, classes)
        layers: list[Layer] = [self.stem, *self.blocks, self.last, self.head]
        self.specs = collect(*layers)

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = self.stem(params, inputs.unflatten(-1, self.shape))
        for block in self.blocks:
            x = block(params, x)
        return self.head(params, self.last(params, x).mean(dim=(-2, -1)))


def _scaled(channels: int, width: int) -> int:
    return max(1, channels * width // _PUBLISHED_WIDTH)


def _mobilenet(name: str, images: ImageSource, options: MobileNetOptions, source: str) -> BatchNormClassifyTask:
    network = MobileNetV2(images.shape, images.classes, options.width)
    return BatchNormClassifyTask(name, images, network, options, source)


_SOURCE = "Sandler et al. 2018"

MOBILENETS = image_members(
    _mobilenet,
    {
        "mobilenetv2-mnist": ("mnist", MobileNetOptions(), _SOURCE),
        "mobilenetv2-fashion-mnist": ("fashion-mnist", MobileNetOptions(), _SOURCE),
        "mobilenetv2-cifar10": ("cifar10", MobileNetOptions(), _SOURCE),
        "mobilenetv2-cifar100": ("cifar100", MobileNetOptions(), _SOURCE),
    },
)
