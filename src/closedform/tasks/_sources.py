"""``IMAGES``: the sets of labelled images, by the names that tasks are called after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from closedform.tasks._cifar import CIFAR10, CIFAR100, CifarSource
from closedform.tasks._idx_files import FASHION_MNIST, MNIST, IdxSource
from closedform.tasks._images import DigitsSource, ImageSource
from closedform.tasks._mnist1d import Mnist1dSource
from closedform.tasks._pooled import PooledSource

IMAGES: dict[str, Callable[[str | Path | None], ImageSource]] = {
    "digits": lambda data_dir: DigitsSource(),
    "mnist1d": lambda data_dir: Mnist1dSource(),
    "mnist": partial(IdxSource, MNIST),
    "fashion-mnist": partial(IdxSource, FASHION_MNIST),
    "mnist-14x14": lambda data_dir: PooledSource(IdxSource(MNIST, data_dir)),
    "fashion-mnist-14x14": lambda data_dir: PooledSource(IdxSource(FASHION_MNIST, data_dir)),
    "cifar10": partial(CifarSource, CIFAR10),
    "cifar100": partial(CifarSource, CIFAR100),
}
