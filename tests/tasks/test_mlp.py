"""The MLP tasks: splits, network, hand-written gradients, and that they can be trained."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import vmap

from closedform import tasks
from closedform.errors import UnknownNameError
from closedform.tasks._base import Task
from closedform.tasks._dense import ACTIVATIONS
from closedform.tasks._images import DigitsSource, halves


def test_digits_splits_are_disjoint_and_cover_everything() -> None:
    images = DigitsSource().load()
    rows = torch.cat(list(images.splits.values()))
    assert torch.equal(rows.sort().values, torch.arange(1797))
    assert {name: len(split) for name, split in images.splits.items()} == {"train": 719, "eval": 719, "test": 359}
    assert images.pixels.shape == (1797, 64)
    assert images.pixels.max() == images.white == 16
    for split in images.splits.values():  # shuffled: every class is there in about its share
        assert images.labels[split].bincount(minlength=10).min() > 0.06 * len(split)


@pytest.mark.parametrize("rows", [1, 2, 7, 60000])
def test_halves_are_disjoint_cover_and_stay_the_same(rows: int) -> None:
    split = halves(rows)
    assert torch.equal(torch.cat((split["train"], split["eval"])).sort().values, torch.arange(rows))
    assert len(split["eval"]) - len(split["train"]) == rows % 2
    assert torch.equal(split["train"], halves(rows)["train"])


def test_pixels_run_from_zero_to_one_and_can_be_shifted() -> None:
    pixels, labels = tasks.get("mlp-digits").full("train")
    assert [part.item() for part in (*pixels.aminmax(), *labels.aminmax())] == [0, 1, 0, 9]
    assert pixels.dtype == torch.float32
    shifted, _ = tasks.get("mlp-digits", black=-0.5).full("train")
    torch.testing.assert_close(shifted, pixels - 0.5)


def test_batches_are_rows_of_their_split(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits", batch_size=5)
    pixels, labels = task.full("eval")
    batch = task.batch("eval", generator)
    assert [tuple(part.shape) for part in batch] == [(5, 64), (5,)]
    for row, label in zip(*batch, strict=True):
        assert ((pixels == row).all(dim=1) & (labels == label)).any()


def test_batches_cover_their_split(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits")
    drawn = {tuple(row.tolist()) for _ in range(100) for row in task.batch("eval", generator)[0]}
    assert len(drawn) > 0.99 * len(task.full("eval")[1])


def test_initial_weights_have_the_papers_deviation(generator: torch.Generator) -> None:
    params = tasks.TASKS["mlp-mnist"]().init(generator)
    assert {name: tuple(value.shape) for name, value in params.items()} == {
        "layer1.weight": (50, 784),
        "layer1.bias": (50,),
        "layer2.weight": (20, 50),
        "layer2.bias": (20,),
        "layer3.weight": (10, 20),
        "layer3.bias": (10,),
    }
    assert params["layer1.weight"].std().item() == pytest.approx(0.01, rel=0.02)
    assert params["layer2.bias"].abs().max() == 0


def test_network_is_the_one_of_torch_nn(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits", hidden=(20, 12), init_std=0.5)
    params, batch = task.init(generator), task.full("test")
    linear = torch.nn.Linear
    network = torch.nn.Sequential(linear(64, 20), torch.nn.ReLU(), linear(20, 12), torch.nn.ReLU(), linear(12, 10))
    network.load_state_dict(dict(zip(network.state_dict(), params.values(), strict=True)))
    logits = network(batch[0])
    metrics = task.metrics(params, batch)
    assert metrics["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, batch[1]).item(), rel=1e-6)
    assert metrics["accuracy"] == (logits.argmax(1) == batch[1]).double().mean().item()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("hidden", [(), (20,), (9, 8, 7)])
def test_hand_written_gradient_is_autograds(
    activation: str, hidden: tuple[int, ...], generator: torch.Generator
) -> None:
    task = tasks.get("mlp-digits", hidden=hidden, activation=activation, init_std=0.3).to(dtype=torch.float64)
    params, batch = task.init(generator), task.batch("train", generator)
    loss, grads = task.loss_and_grad(params, batch)
    expected_loss, expected = Task.loss_and_grad(task, params, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-11, atol=1e-15)


def test_order_of_the_parameters_does_not_matter(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits")
    params, batch = task.init(generator), task.batch("train", generator)
    backwards = dict(reversed(list(params.items())))
    loss, grads = task.loss_and_grad(params, batch)
    loss_backwards, grads_backwards = task.loss_and_grad(backwards, batch)
    assert list(grads_backwards) == list(backwards)
    torch.testing.assert_close((loss_backwards, grads_backwards), (loss, grads), rtol=0, atol=0)


def test_hand_written_gradient_works_under_vmap(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits").to(dtype=torch.float64)
    inits = [task.init(generator) for _ in range(3)]
    params = {name: torch.stack([each[name] for each in inits]) for name in task.shapes}
    batch = task.batch("train", generator)
    losses, grads = vmap(task.loss_and_grad, in_dims=(0, None))(params, batch)
    for k, each in enumerate(inits):
        loss, grad = task.loss_and_grad(each, batch)
        torch.testing.assert_close(losses[k], loss)
        torch.testing.assert_close({name: value[k] for name, value in grads.items()}, grad)


@pytest.mark.parametrize("name", ["mlp-digits", "mlp-mnist", "mlp-fashion-mnist"])
def test_untrained_network_knows_nothing_and_a_few_steps_teach_it(name: str, generator: torch.Generator) -> None:
    missing = tasks.TASKS[name]().available()
    if missing is not None:
        pytest.skip(missing)
    task = tasks.get(name)
    params, held_out = task.init(generator), task.full("test")
    assert task.metrics(params, held_out)["loss"] == pytest.approx(math.log(10), abs=0.01)
    leaves = [value.requires_grad_() for value in params.values()]
    adam = torch.optim.Adam(leaves, lr=0.01)
    for _ in range(120):
        _, grads = task.loss_and_grad(params, task.batch("train", generator))
        for leaf, grad in zip(leaves, grads.values(), strict=True):
            leaf.grad = grad
        adam.step()
    metrics = task.metrics(params, held_out)
    assert metrics["loss"] < 1.0
    assert metrics["accuracy"] > 0.65


def test_unknown_activation_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'relu'"):
        tasks.get("mlp-digits", activation="rleu")
