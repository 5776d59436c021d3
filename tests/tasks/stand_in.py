"""Images for tasks under test; a module of its own, since a class of a ``conftest`` cannot be pickled."""

from __future__ import annotations

import torch

from closedform.tasks._images import Images, ImageSource, halves


class StandIn(ImageSource):
    """Random images in place of a set of the same shape and classes, which is large, or not on this machine."""

    data = "random"
    reference = "random"

    def __init__(self, like: ImageSource) -> None:
        self.shape, self.classes = like.shape, like.classes

    def available(self) -> None:
        return None

    def load(self) -> Images:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (60, self.pixels), generator=generator).to(torch.uint8)
        labels = torch.randint(self.classes, (60,), generator=generator)
        return Images(pixels, labels, 255.0, {**halves(48), "test": torch.arange(48, 60)})
