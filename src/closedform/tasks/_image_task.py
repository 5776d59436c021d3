"""Tasks on images: minibatches, splits, and the classifier of any network.

A family of such tasks is a table: a name, the images (a name in ``IMAGES``), the options' defaults and the source.
``image_members`` turns the table into members of ``TASKS``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_count, check_number
from closedform.errors import OptionError
from closedform.tasks._base import SPLITS, Batch, Params, Task, with_options
from closedform.tasks._images import ImageSource
from closedform.tasks._network import Network, NetworkTask
from closedform.tasks._sources import IMAGES

T = TypeVar("T", bound="ImageTask")
Options = TypeVar("Options", bound="ImageOptions")
Make = Callable[[str, ImageSource, Options, str], Task]


@dataclass(frozen=True)
class ImageOptions:
    """What can be chosen about any task on images.

    Attributes:
        batch_size: Images a minibatch.
        horizon: Steps an episode.
        black: What a black pixel becomes; a white one becomes ``black + 1``.
    """

    batch_size: int = 128
    horizon: int = 620
    black: float = 0.0

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_count("horizon", self.horizon)
        check_number("black", self.black, least=-1)


class ImageTask(NetworkTask):
    """A network and the images that it is trained on.

    Args:
        name: The task's name.
        images: Where the images come from; read when a batch is first asked for.
        network: What is trained.
        options: Network, batch and episode.
        source: Where the problem comes from.
    """

    def __init__(self, name: str, images: ImageSource, network: Network, options: ImageOptions, source: str) -> None:
        self.name = name
        self.horizon = options.horizon
        self.source = f"{source}; {images.reference}"
        self.data = images.data
        self.options = options
        self.specs = network.specs
        self.images = images
        self._network = network
        self._splits: dict[str, Batch] = {}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        pixels, labels = self.full(split)
        size = (self.options.batch_size,)
        rows = torch.randint(len(labels), size, generator=generator, device=generator.device).to(self.device)
        return pixels.index_select(0, rows), labels.index_select(0, rows)

    def full(self, split: str) -> Batch:
        """A split's pixels, [N, D], and labels, [N]."""
        if split not in self._splits:
            lookup("split", split, SPLITS)
            images = self.images.images
            rows = images.splits[split]
            pixels = images.pixels[rows].to(self.device, self.dtype).div_(images.white).add_(self.options.black)
            self._splits[split] = (pixels, images.labels[rows].to(self.device))
        return self._splits[split]

    def available(self) -> str | None:
        return self.images.available()

    def prepare(self) -> None:
        self.images.prepare()

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        moved = super().to(device, dtype)
        moved._splits = {}
        return moved

    def with_images(self: T, images: ImageSource) -> T:
        """A copy of this task on other images of the same shape and number of classes.

        Raises:
            OptionError: they have another shape or number of classes.
        """
        if (images.shape, images.classes) != (self.images.shape, self.images.classes):
            raise OptionError(
                f"task {self.name!r} takes images of shape {self.images.shape} in {self.images.classes} classes, "
                f"not {images.shape} in {images.classes}"
            )
        other = copy.copy(self)
        other.images, other.data, other._splits = images, images.data, {}
        return other


class ClassifyTask(ImageTask):
    """Tell a source's images apart; the loss is the minibatch's mean cross-entropy.

    Attributes:
        chunk: Images at a time in ``metrics``, which averages over chunks of about this size, so that a network in
            need of much memory can be measured on a whole split.
    """

    chunk: int = 1024

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._network(params, batch[0]), batch[1])

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        loss = right = 0.0
        for pixels, labels in self._chunks(batch):
            logits = self._network(params, pixels)
            loss += float(functional.cross_entropy(logits, labels)) * len(labels)
            right += int((logits.argmax(dim=-1) == labels).sum())
        return {"loss": loss / len(batch[1]), "accuracy": right / len(batch[1])}

    def _chunks(self, batch: Batch) -> list[Batch]:
        """The batch in as few parts of equal length, or nearly, as have at most ``chunk`` rows."""
        parts = -(-len(batch[1]) // self.chunk)
        return list(zip(*(part.tensor_split(parts) for part in batch), strict=True))


class BatchNormClassifyTask(ClassifyTask):
    """As ClassifyTask, for networks with batch normalisation.

    The minibatch's own statistics are used in training and in ``metrics`` alike (there are no running averages), where
    a large batch is measured in chunks of about the size of a training minibatch. So a test accuracy here is that of
    images that come in minibatches.
    """

    def __init__(self, name: str, images: ImageSource, network: Network, options: ImageOptions, source: str) -> None:
        super().__init__(name, images, network, options, source)
        check_count("batch_size with batch normalisation", options.batch_size, least=2)
        self.chunk = options.batch_size


def image_members(make: Make[Options], rows: Mapping[str, tuple[str, Options, str]]) -> dict[str, Callable[..., Task]]:
    """Members of ``TASKS``, from a family's table.

    Args:
        make: Makes a task from its name, images, options and source.
        rows: By the task's name: the name of its images, the defaults of its options, its source.
    """
    return {name: _member(make, name, *row) for name, row in rows.items()}


def _member(make: Make[Options], name: str, images: str, defaults: Options, source: str) -> Callable[..., Task]:
    def member(*, data_dir: str | Path | None = None, **options: Any) -> Task:
        return make(name, IMAGES[images](data_dir), with_options(defaults, options, name), source)

    member.__doc__ = f"{name}: {source}; data: {images}."
    return member
