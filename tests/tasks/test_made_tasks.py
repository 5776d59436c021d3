"""Tasks from arrays, modules with loaders, folders of images and data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import closedform as cf
from closedform.errors import DataError, OptionError
from closedform.tasks import Task, from_arrays, from_dataset, from_image_folder, from_module

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X.sum(1) > 0).astype(int)


def net(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))


def rows(task: Task) -> torch.Tensor:
    return torch.cat([task.full(split)[0] for split in ("train", "eval", "test")])


def test_every_row_is_in_one_split() -> None:
    task = from_arrays(X, Y, net(), test_share=0.25, seed=3)
    assert [len(task.full(split)[0]) for split in ("train", "eval", "test")] == [22, 23, 15]
    found = rows(task)
    assert torch.equal(found[found[:, 0].argsort()], torch.tensor(X[X[:, 0].argsort()], dtype=torch.float32))
    assert not torch.equal(rows(from_arrays(X, Y, net(), seed=4)), rows(from_arrays(X, Y, net(), seed=3)))


def test_gradients_are_those_of_a_plain_loop() -> None:
    module = net()
    task = from_arrays(X, Y, module, fresh=False)
    generator = torch.Generator().manual_seed(0)
    params, batch = task.init(generator), task.batch("train", generator)
    loss, grads = task.loss_and_grad(params, batch)
    module.zero_grad()
    plain = nn.functional.cross_entropy(module(batch[0]), batch[1])
    plain.backward()
    assert torch.allclose(loss, plain.detach())
    for name, parameter in module.named_parameters():
        assert torch.allclose(grads[name], parameter.grad, atol=1e-6)  # type: ignore[arg-type]


def test_starts_are_drawn_anew_unless_told_otherwise() -> None:
    module = net()
    first, second = (from_arrays(X, Y, module).init(torch.Generator().manual_seed(k)) for k in range(2))
    assert not torch.equal(first["0.weight"], second["0.weight"])
    bound = 1 / 4**0.5  # nn.Linear's own
    assert float(first["0.weight"].abs().max()) <= bound
    tuned = from_arrays(X, Y, module, fresh=False).init(torch.Generator().manual_seed(1))
    assert torch.equal(tuned["0.weight"], module[0].weight)
    with torch.no_grad():
        module[0].weight.zero_()
    assert bool(tuned["0.weight"].any())


def test_numbers_that_are_not_whole_are_regressed() -> None:
    task = from_arrays(X, X[:, :1], net(1))
    batch = task.full("test")
    out = net(1)(batch[0])
    assert torch.equal(task._loss(out, batch[1]), (out - batch[1]).square().mean())  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"gives \[1\] for each row, and targets have \[\]: make them alike"):
        from_arrays(X, X[:, 0], net(1))


def test_buffers_and_dropout_do_not_leak_between_episodes() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    task = from_module(module, DataLoader(TensorDataset(torch.tensor(X).float(), torch.tensor(Y)), batch_size=16))
    params, batch = task.init(torch.Generator().manual_seed(0)), task.full("test")
    before = task.metrics(params, batch)
    for _ in range(3):
        task.loss(params, batch)
    assert task.metrics(params, batch) == before
    assert module[1].running_mean is not None
    network = cf.learned_optimizers.get("rp-s", generator=torch.Generator().manual_seed(0))
    cf.meta_train(network, [task], estimator=cf.TruncatedBPTT(3), steps=2, horizon=6, validate_every=0)


@pytest.mark.parametrize("form", ["pairs", "lists", "mappings", "named"])
def test_loaders_of_every_form(form: str) -> None:
    x, y = torch.tensor(X).float(), torch.tensor(Y)
    batches: Any = [(x[k : k + 20], y[k : k + 20]) for k in range(0, 60, 20)]
    keys = None
    if form == "lists":
        batches = [list(batch) for batch in batches]
    elif form == "mappings":
        batches = [{"image": a, "label": b} for a, b in batches]
    elif form == "named":
        batches = [{"id": b, "label": b, "image": a} for a, b in batches]
        keys = ("image", "label")
    task = from_module(net(), batches, keys=keys)
    assert task.batch_size == 20
    assert len(rows(task)) == 60


def spent() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from ()


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        ([], "the loader is empty"),
        (spent(), "was gone through before"),
        ([torch.zeros(3)], "must yield"),
        ([(torch.zeros(3),)], "must yield"),
        ([{"a": torch.zeros(3)}], "say keys="),
        ([(torch.zeros(3, 4), torch.zeros(3)), (torch.zeros(3, 5), torch.zeros(3))], "do not fit together"),
        ([("text", torch.zeros(1))], "inputs must be an array"),
    ],
)
def test_bad_loaders_are_refused_in_a_line(loader: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        from_module(net(), loader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "error", "said"),
    [
        (X, Y[:-1], DataError, "60 inputs and 59 targets"),
        (np.where(X > 2, np.nan, X), Y, DataError, "not finite: fill them in"),
        (X[:2], Y[:2], DataError, "too few to hold out"),
        (3.0, Y, DataError, "a row for each example"),
        ("abc", Y, DataError, "inputs must be an array"),
        (X[:, :3], Y, OptionError, "its module fails"),
    ],
)
def test_bad_arrays_are_refused_in_a_line(x: Any, y: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        from_arrays(x, y, net())
    assert "\n" not in str(caught.value)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OptionError, match="test_share"):
        from_arrays(X, Y, net(), test_share=1.5)
    with pytest.raises(OptionError, match="give the module"):
        from_arrays(X, Y, net, fresh=False)


def test_it_is_a_task_like_others() -> None:
    task = from_arrays(X, Y, net, name="mine", horizon=5)
    recording = cf.record("adam", task, steps=5, episodes=2)
    assert recording.provenance["tasks"] == ["mine"]
    found = cf.evaluate({"sgd": cf.load_rule("sgd")}, [task], seeds=2, baselines=())
    assert list(found.tasks) == ["mine"]


def test_images_in_folders(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for k in range(6):
            pixels = generator.integers(0, 256, (10, 14, 3), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / label / f"{k}.png")
    (tmp_path / "cat/notes.txt").write_text("no image")
    model = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, 2))
    task = from_image_folder(tmp_path, model, size=8, channels=1)
    assert task.name == tmp_path.name
    assert rows(task).shape == (12, 1, 8, 8)
    assert -1 <= float(rows(task).min()) < -0.3 < 0.3 < float(rows(task).max()) <= 1
    whole = torch.cat([task.full(split)[1] for split in ("train", "eval", "test")])
    assert whole.bincount().tolist() == [6, 6]
    (tmp_path / "dog/bad.png").write_bytes(b"\x89PNG no image")
    with pytest.raises(DataError, match=r"bad.png cannot be read as an image"):
        from_image_folder(tmp_path, model, size=8, channels=1)


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold a folder for each class"):
        from_image_folder(tmp_path / "none", net())
    for label in "ab":
        (tmp_path / label).mkdir()
    with pytest.raises(DataError, match="holds no images"):
        from_image_folder(tmp_path, net())


def test_data_sets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()})
    made.save_to_disk(str(tmp_path / "one"))
    for source in (made, tmp_path / "one"):
        task = from_dataset(source, net(), inputs="x", targets="label")
        assert rows(task).shape == (60, 4)
        assert torch.cat([task.full(s)[1] for s in ("train", "eval", "test")]).sum() == Y.sum()
    with pytest.raises(DataError, match="has no column 'y'; it has x, label"):
        from_dataset(made, net(), inputs="x", targets="y")
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match="holds the splits train: name one"):
        from_dataset(tmp_path / "both", net(), inputs="x", targets="label")
    with pytest.raises(DataError, match="is no folder that save_to_disk wrote"):
        from_dataset(tmp_path / "none", net(), inputs="x", targets="label")
