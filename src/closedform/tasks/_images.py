"""Labelled images in memory, and where they come from.

A source says what it needs without touching it; ``load`` reads it. Here are scikit-learn's digits, which ship with that
library: no file, no network. ``_sources.py`` lists all.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from closedform.errors import DataError

_HALVING_SEED = 10  # the released code of the paper halves MNIST by numpy's RandomState(10)


@dataclass(frozen=True)
class Images:
    """Labelled images and how they are split.

    Attributes:
        pixels: [N, D] uint8 (float32 where the source is not 8-bit), one image a row: channels, then rows, columns.
        labels: [N] int64.
        white: The value of a pixel of full intensity.
        splits: Indices into the rows, a tensor a split; the splits are disjoint and cover all rows.
    """

    pixels: Tensor
    labels: Tensor
    white: float
    splits: dict[str, Tensor]


class ImageSource(ABC):
    """Where a set of labelled images comes from.

    Attributes:
        data: What it is, in a word or two.
        reference: Who made it.
        shape: An image's channels, rows and columns.
        classes: The number of classes.
    """

    data: str
    reference: str
    shape: tuple[int, int, int]
    classes: int = 10

    @property
    def pixels(self) -> int:
        """Numbers an image."""
        return math.prod(self.shape)

    @abstractmethod
    def available(self) -> str | None:
        """None if ``load`` would find its data on this machine, else one line that says how to get them."""

    def prepare(self) -> None:
        """Fetch what is missing; DataError where that cannot be done."""
        missing = self.available()
        if missing is not None:
            raise DataError(missing)

    @abstractmethod
    def load(self) -> Images:
        """Read the images."""

    @functools.cached_property
    def images(self) -> Images:
        """The images, read when first asked for."""
        return self.load()


class DigitsSource(ImageSource):
    """The 1797 handwritten digits of 8x8 pixels, 17 grey levels, that ship with scikit-learn.

    Shuffled, since they come ordered by writer: 719 for meta-training, 719 for evaluation, 359 for test.

    Source: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998 (its test set).
    """

    data = "digits"
    reference = "data: Alpaydin & Kaynak 1998, in scikit-learn"
    shape = (1, 8, 8)

    def available(self) -> str | None:
        missing = importlib.util.find_spec("sklearn") is None
        return "needs scikit-learn: pip install scikit-learn" if missing else None

    def load(self) -> Images:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = shuffled(len(digits.target))
        split = torch.tensor_split(order, (719, 1438))
        return Images(
            pixels=torch.as_tensor(digits.data).to(torch.uint8),
            labels=torch.as_tensor(digits.target).to(torch.int64),
            white=16.0,
            splits=dict(zip(("train", "eval", "test"), split, strict=True)),
        )


def halves(rows: int) -> dict[str, Tensor]:
    """Split rows 0 .. rows-1 at random, but always in the same way, into the halves ``train`` and ``eval``.

    Source: the paper's released code (shuffle by ``RandomState(10)``, first half for meta-training).
    """
    order = shuffled(rows)
    return {"train": order[: rows // 2], "eval": order[rows // 2 :]}


def shuffled(rows: int) -> Tensor:
    """A fixed random order of 0 .. rows-1; numpy promises that RandomState's never changes."""
    from numpy.random import RandomState

    return torch.as_tensor(RandomState(_HALVING_SEED).permutation(rows)).to(torch.int64)
