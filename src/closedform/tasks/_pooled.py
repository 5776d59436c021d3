"""Images made smaller, for meta-training on little compute: a network on them has a quarter of the first layer."""

from __future__ import annotations

import dataclasses

from torch.nn import functional

from closedform.tasks._images import Images, ImageSource


class PooledSource(ImageSource):
    """Another source's images, every square of 2x2 pixels replaced by its mean.

    Args:
        source: The images; rows and columns are even in number.
    """

    def __init__(self, source: ImageSource) -> None:
        channels, rows, columns = source.shape
        self.source = source
        self.data = source.data
        self.reference = f"{source.reference}, pooled 2x2"
        self.shape = (channels, rows // 2, columns // 2)
        self.classes = source.classes

    def available(self) -> str | None:
        return self.source.available()

    def prepare(self) -> None:
        self.source.prepare()

    def load(self) -> Images:
        images = self.source.load()
        pixels = images.pixels.view(-1, *self.source.shape).float()
        return dataclasses.replace(images, pixels=functional.avg_pool2d(pixels, 2).flatten(1))
