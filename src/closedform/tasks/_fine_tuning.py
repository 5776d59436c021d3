"""Fine-tuning: a network that has learned some classes goes on to learn others.

Of a source's classes the lower half is the past, the upper half the task. An episode starts from the convolutions that
a short run of Adam has learned on the past's images (half ``train``), always the same, and from a new linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._options import check_count, check_positive
from closedform.tasks._base import Batch, Params
from closedform.tasks._convnet import ConvNet, ConvNetOptions
from closedform.tasks._image_task import ClassifyTask, image_members
from closedform.tasks._images import ImageSource

_SEED = 0
"""Of the run that learns the past."""


@dataclass(frozen=True)
class FineTuningOptions(ConvNetOptions):
    """What can be chosen about fine-tuning.

    Attributes:
        past_steps: Steps of Adam on the past's classes.
        past_lr: Their learning rate.
    """

    past_steps: int = 300
    past_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("past_steps", self.past_steps)
        check_positive("past_lr", self.past_lr)


class FineTuning(ClassifyTask):
    """Tell the upper half of a source's classes apart, starting from a network that knows the lower half.

    Args:
        name: The task's name.
        images: Where the images come from.
        options: Network, batch, episode and past.
        source: Where the problem comes from.
    """

    options: FineTuningOptions

    def __init__(self, name: str, images: ImageSource, options: FineTuningOptions, source: str) -> None:
        self.past_classes = images.classes // 2
        network = ConvNet(images.shape, images.classes - self.past_classes, tuple(options.channels))
        super().__init__(name, images, network, options, source)
        self._head = set(network.head.specs)
        self._past: Params = {}

    def init(self, generator: torch.Generator) -> Params:
        start = super().init(generator)
        kept = {name: value.to(self.device, self.dtype) for name, value in self._learned().items()}
        return {name: value if name in self._head else kept[name].clone() for name, value in start.items()}

    def full(self, split: str) -> Batch:
        """A split's pixels, [N, D], and labels from 0, [N], of the upper half of the classes."""
        if split not in self._splits:
            pixels, labels = super().full(split)
            new = labels >= self.past_classes
            self._splits[split] = (pixels[new], labels[new] - self.past_classes)
        return self._splits[split]

    def with_images(self, images: ImageSource) -> FineTuning:
        other = super().with_images(images)
        other._past = {}
        return other

    def _learned(self) -> Params:
        """The parameters after the past, in float32 on the CPU; computed when first asked for."""
        if not self._past:
            self._past = self._learn(torch.Generator().manual_seed(_SEED))
        return self._past

    def _learn(self, generator: torch.Generator) -> Params:
        leaves = {
            name: torch.nn.Parameter(torch.randn(spec.shape, generator=generator) * spec.std + spec.mean)
            for name, spec in self.specs.items()
        }
        pixels, labels = self._past_images()
        adam = torch.optim.Adam(leaves.values(), lr=self.options.past_lr, foreach=True)
        for _ in range(self.options.past_steps):
            drawn = torch.randint(len(labels), (self.options.batch_size,), generator=generator)
            with torch.enable_grad():
                adam.zero_grad()
                self.loss(dict(leaves), (pixels[drawn], labels[drawn])).backward()
            adam.step()
        return {name: leaf.detach() for name, leaf in leaves.items()}

    def _past_images(self) -> tuple[Tensor, Tensor]:
        images = self.images.images
        rows = images.splits["train"]
        rows = rows[images.labels[rows] < self.past_classes]
        return images.pixels[rows].float().div_(images.white).add_(self.options.black), images.labels[rows]


FINE_TUNINGS = image_members(
    FineTuning,
    {
        "fine-tuning-fashion-mnist": (
            "fashion-mnist",
            FineTuningOptions(channels=(16, 32), batch_size=64, horizon=1000),
            "after Yosinski et al. 2014",
        )
    },
)
