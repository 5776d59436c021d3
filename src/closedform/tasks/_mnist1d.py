"""mnist1d: ten classes of noisy curves of 40 points, made by the Python package of that name (optional).

The package's own loader reads a pickle from the network or the working directory; here the data are made anew instead,
by its generator, from its default seed.

Source: S. Greydanus, D. Kobak, "Scaling down deep learning with MNIST-1D", ICML 2024.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from closedform.tasks._images import Images, ImageSource, halves


class Mnist1dSource(ImageSource):
    """The 5,000 curves: 2,000 for meta-training, 2,000 for evaluation, 1,000 for test."""

    data = "mnist1d"
    reference = "data: Greydanus & Kobak 2024"
    shape = (1, 1, 40)

    def available(self) -> str | None:
        missing = importlib.util.find_spec("mnist1d") is None
        return "mnist1d is not on this machine: pip install mnist1d" if missing else None

    def load(self) -> Images:
        self.prepare()
        with _global_randomness_kept():
            made = importlib.import_module("mnist1d.data").make_dataset()
        train, test = len(made["y"]), len(made["y_test"])
        return Images(
            pixels=torch.cat([torch.as_tensor(made[part]) for part in ("x", "x_test")]).to(torch.float32),
            labels=torch.cat([torch.as_tensor(made[part]) for part in ("y", "y_test")]).to(torch.int64),
            white=1.0,
            splits={**halves(train), "test": torch.arange(train, train + test)},
        )


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """The package seeds the global generators of Python and numpy; put them back as they were."""
    import numpy as np

    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
