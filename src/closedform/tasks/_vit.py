"""Vision Transformers: an image's square patches as words, blocks of attention, their mean, and a linear layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.tasks._base import Params
from closedform.tasks._image_task import ClassifyTask, ImageOptions, image_members
from closedform.tasks._images import ImageSource
from closedform.tasks._network import Layer, LayerNorm, Linear, Spec, collect
from closedform.tasks._transformer import Block, check_heads


@dataclass(frozen=True)
class ViTOptions(ImageOptions):
    """What can be chosen about a Vision Transformer.

    Attributes:
        patch: Pixels along the side of a patch; it divides the image's sides.
        width: Units of a layer.
        layers: Blocks.
        heads: Heads of attention, by which ``width`` is divisible.
    """

    black: float = -0.5
    patch: int = 7
    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patch", "width", "layers"):
            check_count(name, getattr(self, name))
        check_heads(self.width, self.heads)


class ViT:
    """Patches and their places embedded, blocks, a normalisation, the mean over patches, and a linear layer.

    Args:
        shape: An image's channels, rows and columns.
        classes: Outputs.
        options: Sizes.

    Raises:
        OptionError: a patch does not divide the image.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, options: ViTOptions) -> None:
        channels, rows, columns = shape
        side, width = options.patch, options.width
        if rows % side or columns % side:
            raise OptionError(f"patch must divide the image's {rows} rows and {columns} columns, not {side}")
        self.shape, self.side = shape, side
        self.embed = Linear("embed", channels * side**2, width)
        self.blocks = [Block(f"block{i}", options) for i in range(1, options.layers + 1)]
        self.norm = LayerNorm("norm", width)
        self.head = Linear("head", width, classes, gain=0.1)  # starts near a uniform guess
        layers: list[Layer] = [*self.blocks, self.norm, self.head]
        places = Spec((rows // side * (columns // side), width), 0.1)
        self.specs = {**self.embed.specs, "place": places, **collect(*layers)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        x = self.embed(params, self.patches(inputs)) + params["place"]
        everywhere = torch.zeros((), dtype=x.dtype, device=x.device)
        for block in self.blocks:
            x = block(params, x, everywhere)
        return self.head(params, self.norm(params, x).mean(dim=-2))

    def patches(self, inputs: Tensor) -> Tensor:
        """[batch, pixels] -> [batch, patches, pixels of a patch], both row by row."""
        channels, rows, columns = self.shape
        cut = inputs.reshape(-1, channels, rows // self.side, self.side, columns // self.side, self.side)
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _vit(name: str, images: ImageSource, options: ViTOptions, source: str) -> ClassifyTask:
    return ClassifyTask(name, images, ViT(images.shape, images.classes, options), options, source)


_SOURCE = "Dosovitskiy et al. 2021, made small, with the mean of the patches as Zhai et al. 2022"

VITS = image_members(_vit, {"vit-fashion-mnist": ("fashion-mnist", ViTOptions(batch_size=32, horizon=1000), _SOURCE)})
