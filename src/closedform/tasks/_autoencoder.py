"""Auto-encoders: squeeze an image through a narrow layer, and reproduce it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform.tasks._base import Batch, Params
from closedform.tasks._dense import ACTIVATIONS, Dense, check_hidden
from closedform.tasks._image_task import ImageOptions, ImageTask, image_members
from closedform.tasks._images import ImageSource


@dataclass(frozen=True)
class AutoencoderOptions(ImageOptions):
    """What can be chosen about an auto-encoder.

    Attributes:
        hidden: Widths of the hidden layers, the narrow one among them.
        activation: A name in ``ACTIVATIONS``; with ``linear``, the best there is are the principal components.
    """

    hidden: tuple[int, ...] = (128, 32, 128)
    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hidden(self.hidden)
        lookup("activation", self.activation, ACTIVATIONS)


class AutoencoderTask(ImageTask):
    """Reproduce images; the loss is the mean squared error of a pixel, over pixels and the minibatch."""

    _network: Dense

    def __init__(self, name: str, images: ImageSource, options: AutoencoderOptions, source: str) -> None:
        widths = (images.pixels, *options.hidden, images.pixels)
        super().__init__(name, images, Dense(widths, ACTIVATIONS[options.activation], None), options, source)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.mse_loss(self._network(params, batch[0]), batch[0])

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient by hand-written backpropagation; works under ``vmap`` too."""
        seen, output = self._network.trace(params, batch[0])
        error = output.sub_(batch[0])
        loss = error.square().mean()
        return loss, self._network.backward(params, seen, error.mul_(2 / error.numel()))


_SOURCE = "after Hinton & Salakhutdinov 2006, made small"

AUTOENCODERS = image_members(
    AutoencoderTask,
    {
        "autoencoder-digits": ("digits", AutoencoderOptions(hidden=(32, 8, 32), horizon=200), _SOURCE),
        "autoencoder-mnist": ("mnist", AutoencoderOptions(), _SOURCE),
    },
)
