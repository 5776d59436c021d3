"""mnist1d, where its package is installed: sizes, determinism, and no trace left behind."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from closedform import tasks
from closedform.errors import DataError
from closedform.tasks import _mnist1d
from closedform.tasks._mlp import MLPTask
from closedform.tasks._mnist1d import Mnist1dSource

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("mnist1d") is None, reason="mnist1d is not on this machine: pip install mnist1d"
)


@needs_package
def test_curves_are_always_the_same_and_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    first = Mnist1dSource().load()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    second = Mnist1dSource().load()
    assert torch.equal(first.pixels, second.pixels)
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002
    assert os.listdir(tmp_path) == []  # the package's own loader writes a pickle


@needs_package
def test_curves_are_split_and_can_be_learned(generator: torch.Generator) -> None:
    task = tasks.get("mlp-mnist1d")
    assert isinstance(task, MLPTask)
    images = task.images.images
    assert images.pixels.shape == (5000, 40)
    assert images.labels.bincount().tolist() == [500] * 10
    assert {name: len(split) for name, split in images.splits.items()} == {"train": 2000, "eval": 2000, "test": 1000}
    assert torch.equal(torch.cat(list(images.splits.values())).sort().values, torch.arange(5000))
    assert abs(float(images.pixels.mean())) < 1e-5
    assert float(images.pixels.std()) == pytest.approx(1.0, abs=1e-3)
    leaves = {name: value.requires_grad_() for name, value in task.init(generator).items()}
    adam = torch.optim.Adam(leaves.values(), lr=0.02, foreach=True)
    for _ in range(200):
        _, grads = task.loss_and_grad(leaves, task.batch("train", generator))
        for name, leaf in leaves.items():
            leaf.grad = grads[name]
        adam.step()
    assert task.metrics(leaves, task.full("test"))["accuracy"] > 0.45


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name == "mnist1d" else found(name)

    assert isinstance(_mnist1d.importlib.util, ModuleType)
    monkeypatch.setattr(_mnist1d.importlib.util, "find_spec", without)
    assert tasks.TASKS["mlp-mnist1d"]().available() == "mnist1d is not on this machine: pip install mnist1d"
    with pytest.raises(DataError, match="pip install mnist1d"):
        tasks.get("mlp-mnist1d")
