"""Variants of the MLP, logistic regression and auto-encoders: sizes, other implementations, known optima, learning."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from closedform import tasks
from closedform.tasks._base import Task
from closedform.tasks._dense import ACTIVATIONS


def train(task: Task, steps: int, lr: float, generator: torch.Generator) -> tasks.Params:
    leaves = {name: value.requires_grad_() for name, value in task.init(generator).items()}
    adam = torch.optim.Adam(leaves.values(), lr=lr, foreach=True)
    for _ in range(steps):
        _, grads = task.loss_and_grad(leaves, task.batch("train", generator))
        for name, leaf in leaves.items():
            leaf.grad = grads[name]
        adam.step()
    return {name: value.detach() for name, value in leaves.items()}


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("mlp-deep-digits", (64, 20, 20, 20, 10)),
        ("mlp-deep-mnist", (784, 50, 20, 20, 12, 10)),
        ("mlp-wide-fashion-mnist", (784, 256, 128, 10)),
        ("mlp-sigmoid-mnist", (784, 20, 10)),
        ("mlp-tanh-mnist", (784, 50, 20, 10)),
        ("mlp-mnist1d", (40, 50, 10)),
        ("mlp-small-mnist", (196, 50, 20, 10)),
        ("logistic-mnist", (784, 10)),
        ("autoencoder-mnist", (784, 128, 32, 128, 784)),
        ("autoencoder-digits", (64, 32, 8, 32, 64)),
    ],
)
def test_layers_have_the_stated_widths(name: str, widths: tuple[int, ...]) -> None:
    shapes = list(tasks.TASKS[name]().shapes.values())
    assert shapes[::2] == [(outputs, inputs) for inputs, outputs in itertools.pairwise(widths)]
    assert shapes[1::2] == [(outputs,) for outputs in widths[1:]]


def test_scaled_start_keeps_the_signals_size(generator: torch.Generator) -> None:
    task = tasks.get("mlp-digits", hidden=(400, 400, 400), init_std=None)
    x, seen = task.full("train")[0], []
    params = task.init(generator)
    for layer in range(1, 4):
        x = torch.relu(x @ params[f"layer{layer}.weight"].T)
        seen.append(float(x.square().mean()))
    assert 0.7 < seen[2] / seen[0] < 1.4
    assert params["layer2.bias"].abs().max() == 0


@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("mlp-deep-digits", 0.01),
        ("mlp-wide-digits", 0.01),
        ("mlp-sigmoid-digits", 0.03),
        ("mlp-tanh-digits", 0.03),
        ("logistic-digits", 0.03),
        ("conv-digits", 0.01),
    ],
)
def test_classifiers_learn_digits(name: str, lr: float, generator: torch.Generator) -> None:
    task = tasks.get(name)
    params = train(task, 100, lr, generator)
    assert task.metrics(params, task.full("test"))["accuracy"] > 0.85


@pytest.mark.parametrize("options", [{}, {"penalty": 0.0}, {"penalty": 0.3}])
def test_gradients_of_logistic_regression_are_autograds(options: dict[str, Any], generator: torch.Generator) -> None:
    task = tasks.get("logistic-digits", **options).to(dtype=torch.float64)
    params, batch = task.init(generator), task.batch("train", generator)
    loss, grads = task.loss_and_grad(params, batch)
    expected_loss, expected = Task.loss_and_grad(task, params, batch)
    torch.testing.assert_close((loss, grads), (expected_loss, expected), rtol=1e-12, atol=1e-15)


def test_logistic_regressions_minimum_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    task = tasks.get("logistic-digits", penalty=0.01).to(dtype=torch.float64)
    pixels, labels = task.full("train")
    fitted = LogisticRegression(C=1 / (0.01 * len(labels)), tol=1e-10, max_iter=5000).fit(
        pixels.numpy(), labels.numpy()
    )
    params = {"layer1.weight": torch.as_tensor(fitted.coef_), "layer1.bias": torch.as_tensor(fitted.intercept_)}
    loss, grads = task.loss_and_grad(params, (pixels, labels))
    assert max(float(grad.abs().max()) for grad in grads.values()) < 1e-6
    assert task.metrics(params, (pixels, labels))["loss"] == pytest.approx(float(loss), rel=1e-12)
    assert task.metrics(params, (pixels, labels))["accuracy"] == fitted.score(pixels.numpy(), labels.numpy())


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_of_auto_encoders_are_autograds(activation: str, generator: torch.Generator) -> None:
    task = tasks.get("autoencoder-digits", activation=activation, hidden=(9, 3)).to(dtype=torch.float64)
    params, batch = task.init(generator), task.batch("train", generator)
    loss, grads = task.loss_and_grad(params, batch)
    expected_loss, expected = Task.loss_and_grad(task, params, batch)
    torch.testing.assert_close((loss, grads), (expected_loss, expected), rtol=1e-11, atol=1e-15)


def test_linear_auto_encoders_optimum_are_the_principal_components() -> None:
    task = tasks.get("autoencoder-digits", activation="linear", hidden=(5,)).to(dtype=torch.float64)
    (pixels, _) = batch = task.full("train")
    mean = pixels.mean(0)
    _, values, axes = torch.linalg.svd(pixels - mean, full_matrices=False)
    first = axes[:5]
    params = {
        "layer1.weight": first,
        "layer1.bias": torch.zeros(5, dtype=torch.float64),
        "layer2.weight": first.T.contiguous(),
        "layer2.bias": mean - mean @ first.T @ first,
    }
    loss, grads = task.loss_and_grad(params, batch)
    assert float(loss) == pytest.approx(float(values[5:].square().sum()) / pixels.numel(), rel=1e-12)
    assert max(float(grad.abs().max()) for grad in grads.values()) < 1e-14


def test_auto_encoder_learns_more_than_the_mean_image(generator: torch.Generator) -> None:
    task = tasks.get("autoencoder-digits")
    pixels, _ = held_out = task.full("test")
    of_the_mean = float((pixels - task.full("train")[0].mean(0)).square().mean())
    assert task.metrics(train(task, 200, 0.01, generator), held_out)["loss"] < 0.45 * of_the_mean
