"""An implicit image: a network with sine units that gives a picture's colour at any place.

The picture is a photograph that ships with scikit-learn, averaged over squares of 4x4 pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_count, check_positive
from closedform.tasks._base import SPLITS, Batch, Params, Task, with_options
from closedform.tasks._images import shuffled
from closedform.tasks._network import Linear, NetworkTask, collect

_SQUARE = 4
_SHARES = (0.4, 0.8)
"""Where a random order of the pixels is cut into the splits."""


@dataclass(frozen=True)
class ImplicitImageOptions:
    """What can be chosen about an implicit image.

    Attributes:
        width: Units of each of the ``layers`` hidden layers.
        layers: Hidden layers.
        frequency: What the first layer's units multiply their input by.
        batch_size: Pixels a minibatch.
        horizon: Steps an episode.
    """

    width: int = 64
    layers: int = 3
    frequency: float = 30.0
    batch_size: int = 1024
    horizon: int = 1500

    def __post_init__(self) -> None:
        for name in ("width", "layers", "batch_size", "horizon"):
            check_count(name, getattr(self, name))
        check_positive("frequency", self.frequency)


class ImplicitImage(NetworkTask):
    """The mean squared error of a colour, colours from -1 to 1 and places from -1 to 1.

    sin(frequency (W x + b)) in the first layer, sin(W x + b) in the others; weights start normal, with the standard
    deviations of the source's uniform ones.

    Args:
        name: The task's name.
        options: Network, batch and episode.
    """

    source = "Sitzmann et al. 2020 (SIREN); picture: scikit-learn's china.jpg"
    data = "scikit-learn"

    def __init__(self, name: str, options: ImplicitImageOptions) -> None:
        self.name = name
        self.horizon = options.horizon
        self.options = options
        widths = [options.width] * options.layers
        # Uniform on (-1/n, 1/n) and on (-sqrt(6/n), sqrt(6/n)): deviations 1/(n sqrt 3) and sqrt(2/n).
        first = Linear("layer1", 2, options.width, gain=1 / math.sqrt(6))
        rest = [Linear(f"layer{i}", options.width, options.width, math.sqrt(2)) for i in range(2, len(widths) + 1)]
        self.hidden = [first, *rest]
        self.head = Linear("head", options.width, 3)
        self.specs = collect(*self.hidden, self.head)

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        places, colours = self.full(split)
        drawn = torch.randint(len(places), (self.options.batch_size,), generator=generator, device=generator.device)
        drawn = drawn.to(self.device)
        return places[drawn], colours[drawn]

    def full(self, split: str) -> Batch:
        """A split's places, [pixels, 2] of row and column, and colours, [pixels, 3]."""
        lookup("split", split, SPLITS)
        places, colours = self._pixels[split]
        return places.to(self.device, self.dtype), colours.to(self.device, self.dtype)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.mse_loss(self.colours(params, batch[0]), batch[1])

    def colours(self, params: Params, places: Tensor) -> Tensor:
        """The network's colours, [n, 3], at places [n, 2]."""
        x = places
        for index, layer in enumerate(self.hidden):
            x = torch.sin(layer(params, x) * (1.0 if index else self.options.frequency))
        return self.head(params, x)

    @functools.cached_property
    def _pixels(self) -> dict[str, Batch]:
        from sklearn.datasets import load_sample_image

        picture = torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0)  # its array cannot be written to
        small = functional.avg_pool2d(picture.float(), _SQUARE)
        rows, columns = small.shape[1:]
        places = torch.cartesian_prod(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns))
        colours = small.flatten(1).T / 127.5 - 1
        parts = torch.tensor_split(shuffled(len(places)), [round(share * len(places)) for share in _SHARES])
        return {split: (places[part], colours[part]) for split, part in zip(SPLITS, parts, strict=True)}


def implicit_image(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A photograph of 106 by 160 pixels in a SIREN of three layers of 64 units. ``data_dir`` is not needed."""
    return ImplicitImage("implicit-image", with_options(ImplicitImageOptions(), options, "implicit-image"))
