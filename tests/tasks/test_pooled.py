"""Images made smaller: each pixel is the mean of four."""

from __future__ import annotations

import numpy as np
import torch

from closedform.tasks._images import DigitsSource
from closedform.tasks._pooled import PooledSource


def test_a_pixel_is_the_mean_of_a_square() -> None:
    source = DigitsSource()
    pooled = PooledSource(source)
    whole, small = source.load(), pooled.load()
    expected = whole.pixels.numpy().astype(np.float32).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    np.testing.assert_allclose(small.pixels.numpy(), expected, rtol=1e-6)
    assert pooled.shape == (1, 4, 4)
    assert pooled.pixels == 16
    assert torch.equal(small.labels, whole.labels)
    assert small.splits.keys() == whole.splits.keys()
    assert pooled.available() is None
