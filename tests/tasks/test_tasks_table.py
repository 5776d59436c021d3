"""What every task promises, checked over the whole table, with tasks made cheap (see conftest.py)."""

from __future__ import annotations

import inspect
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import grad_and_value, vmap

from closedform import tasks
from closedform.errors import DataError, OptionError, UnknownNameError


def start(task: tasks.Task, seed: int = 0) -> tuple[tasks.Params, tasks.Batch]:
    generator = torch.Generator().manual_seed(seed)
    params = {
        name: value + 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in task.init(generator).items()
    }
    return params, task.batch("train", generator)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_describes_itself_without_reading_data(name: str) -> None:
    task = tasks.TASKS[name](data_dir=Path("/nonexistent"))
    assert task.name == name
    assert task.horizon >= 1
    assert task.size == sum(math.prod(shape) for shape in task.shapes.values()) > 0
    assert "\n" not in task.source + task.data
    assert inspect.getdoc(type(task))
    assert len(task.data) <= 20


def test_every_member_computes_a_finite_loss_and_gradient(member: tasks.Task) -> None:
    loss, grads = member.loss_and_grad(*start(member))
    assert loss.isfinite()
    assert {name: tuple(value.shape) for name, value in grads.items()} == member.shapes
    assert all(value.isfinite().all() for value in grads.values())


def test_parameters_are_leaves_of_the_declared_shapes(task: tasks.Task, generator: torch.Generator) -> None:
    params = task.init(generator)
    assert {name: tuple(value.shape) for name, value in params.items()} == task.shapes
    assert list(params) == list(task.shapes)
    assert all(value.is_leaf and not value.requires_grad for value in params.values())
    assert all(value.dtype == torch.float32 for value in params.values())


def test_generator_decides_everything(task: tasks.Task) -> None:
    (params, batch), (again, batch_again) = start(task, seed=1), start(task, seed=1)
    other, other_batch = start(task, seed=2)
    assert all(torch.equal(params[name], again[name]) for name in params)
    assert all(torch.equal(left, right) for left, right in zip(batch, batch_again, strict=True))
    assert any(not torch.equal(params[name], other[name]) for name in params)
    assert not batch or not torch.equal(batch[0], other_batch[0])


def test_loss_is_a_finite_scalar_not_below_the_optimum(task: tasks.Task) -> None:
    for split in tasks.SPLITS:
        loss = task.loss(start(task)[0], task.full(split))
        assert loss.shape == ()
        assert loss.isfinite()
        assert loss >= (task.optimum or 0.0)


def test_metrics_are_numbers_and_hold_the_loss(task: tasks.Task) -> None:
    params, batch = start(task)
    metrics = task.metrics(params, batch)
    assert metrics["loss"] == pytest.approx(float(task.loss(params, batch)), rel=1e-6)
    assert all(isinstance(value, float) for value in metrics.values())
    assert 0 <= metrics.get("accuracy", 0.0) <= 1


def test_gradient_is_that_of_finite_differences(task: tasks.Task) -> None:
    """Along one random direction through all parameters, and along the first coordinate of a few of them."""
    task = task.to(dtype=torch.float64)
    params, batch = start(task)
    loss, grads = task.loss_and_grad(params, batch)
    assert list(grads) == list(params)
    generator = torch.Generator().manual_seed(3)
    everywhere = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64) for name, value in params.items()
    }
    names = list(params)
    single = [{name: _first_axis(params[name])} for name in {names[0], names[len(names) // 2], names[-1]}]
    for direction in (everywhere, *single):
        expected = float(sum((grads[name] * direction[name]).sum() for name in direction))
        found = [slope(task, params, batch, direction, step) for step in (1e-6, 1e-7, 1e-8)]
        # Where a step is long it may cross the kink of a ReLU, and where it is short the loss is rounded.
        assert pytest.approx(expected, rel=1e-4, abs=1e-6 * (1 + float(loss))) in found


def slope(task: tasks.Task, params: tasks.Params, batch: tasks.Batch, direction: tasks.Params, length: float) -> float:
    """The loss's derivative in a direction, by a central difference over twice a length."""
    step = length / math.sqrt(sum(float(part.square().sum()) for part in direction.values()))
    ahead, behind = (
        task.loss({**params, **{name: params[name] + s * direction[name] for name in direction}}, batch)
        for s in (step, -step)
    )
    return float(ahead - behind) / (2 * step)


def _first_axis(value: torch.Tensor) -> torch.Tensor:
    axis = torch.zeros_like(value)
    axis.view(-1)[0] = 1
    return axis


def test_loss_and_grad_is_autograds_and_needs_no_graph(task: tasks.Task) -> None:
    task = task.to(dtype=torch.float64)
    params, batch = start(task)
    with torch.no_grad():
        loss, grads = task.loss_and_grad(params, batch)
    expected, expected_loss = grad_and_value(task.loss)(params, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-10, atol=1e-14)
    assert not loss.requires_grad
    assert not any(value.requires_grad for value in (*grads.values(), *params.values()))


def test_second_derivatives_are_finite(task: tasks.Task) -> None:
    params, batch = start(task)
    leaves = {name: value.requires_grad_() for name, value in params.items()}
    grads = torch.autograd.grad(task.loss(leaves, batch), list(leaves.values()), create_graph=True)
    squares = sum(grad.square().sum() for grad in grads)
    seconds = torch.autograd.grad(squares, list(leaves.values()), allow_unused=True)
    assert all(value is None or value.isfinite().all() for value in seconds)
    assert any(value is not None and value.abs().max() > 0 for value in seconds)


def test_optimizees_side_by_side_under_vmap(task: tasks.Task) -> None:
    task = task.to(dtype=torch.float64)
    starts = [start(task, seed) for seed in range(2)]
    params = {name: torch.stack([each[name] for each, _ in starts]) for name in task.shapes}
    batches = tuple(torch.stack(each) for each in zip(*(batch for _, batch in starts), strict=True))
    grads, losses = vmap(grad_and_value(task.loss))(params, batches)
    for k, (each, batch) in enumerate(starts):
        loss, grad = task.loss_and_grad(each, batch)
        torch.testing.assert_close(losses[k], loss)
        torch.testing.assert_close({name: value[k] for name, value in grads.items()}, grad)


def test_loss_is_pure(task: tasks.Task) -> None:
    params, batch = start(task)
    before = [value.clone() for value in (*params.values(), *batch)]
    first = task.loss(params, batch)
    task.metrics(params, batch)
    task.loss_and_grad(params, start(task, seed=5)[1])
    assert torch.equal(task.loss(params, batch), first)
    assert all(torch.equal(old, new) for old, new in zip(before, (*params.values(), *batch), strict=True))


def test_adam_lowers_the_loss_of_a_batch(task: tasks.Task) -> None:
    generator = torch.Generator().manual_seed(0)
    params, batch = task.init(generator), task.batch("train", generator)
    leaves = [value.requires_grad_() for value in params.values()]
    adam = torch.optim.Adam(leaves, lr=0.01, foreach=True)
    before = float(task.loss_and_grad(params, batch)[0])
    for _ in range(8):
        for leaf, grad in zip(leaves, task.loss_and_grad(params, batch)[1].values(), strict=True):
            leaf.grad = grad
        adam.step()
    assert float(task.loss_and_grad(params, batch)[0]) < 0.995 * before


def test_a_copy_can_be_sent_to_another_process(task: tasks.Task) -> None:
    params, batch = start(task)
    copied = pickle.loads(pickle.dumps(task))  # noqa: S301
    assert copied.shapes == task.shapes
    assert torch.equal(copied.loss(params, batch), task.loss(params, batch))


def test_copy_in_another_dtype_leaves_the_task_alone(task: tasks.Task, generator: torch.Generator) -> None:
    double = task.to(dtype=torch.float64)
    assert type(double) is type(task)
    assert all(value.dtype == torch.float64 for value in double.init(generator).values())
    assert all(value.dtype == torch.float32 for value in task.init(generator).values())
    state = generator.get_state()
    narrow = task.batch("train", generator)
    generator.set_state(state)
    for left, right in zip(narrow, double.batch("train", generator), strict=True):
        torch.testing.assert_close(left, right.to(left.dtype))


def test_unknown_split_is_refused(task: tasks.Task, generator: torch.Generator) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        task.batch("trian", generator)
    with pytest.raises(UnknownNameError, match="unknown split 'validation'"):
        task.full("validation")


def test_unusable_device_or_dtype_is_refused() -> None:
    task = tasks.get("quadratic")
    with pytest.raises(OptionError, match="device 'warp' cannot be used here"):
        task.to("warp")
    with pytest.raises(OptionError, match=r"floating-point type, not torch\.int64"):
        task.to(dtype=torch.int64)


def test_unknown_depth_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown depth '19': .*known: 10, 101, 152, 18, 34, 50"):
        tasks.TASKS["resnet18-cifar10"](depth=19)


def test_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'mlp-digit': did you mean 'mlp-digits'"):
        tasks.get("mlp-digit")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quadratic", {"conditon": 3}, "did you mean 'condition'"),
        ("quadratic", {"condition": 0.5}, "condition must be a finite number of at least 1, not 0.5"),
        ("quadratic", {"condition": math.nan}, "condition must be a finite number"),
        ("quadratic", {"dim": 0}, "dim must be a whole number of at least 1, not 0"),
        ("rosenbrock", {"dim": 1}, "dim must be a whole number of at least 2, not 1"),
        ("mlp-digits", {"batch_size": "64"}, "batch_size must be a whole number"),
        ("mlp-digits", {"hidden": 20}, "hidden must be a list of widths"),
        ("mlp-digits", {"hidden": (20, 0)}, "a hidden layer's width must be"),
        ("mlp-digits", {"init_std": -1}, "init_std must be a finite number of at least 0"),
        ("mlp-digits", {"horizon": True}, "horizon must be a whole number"),
        ("mlp-digits", {"black": -2}, "black must be a finite number of at least -1"),
        ("logistic-digits", {"hidden": (3,)}, "unknown option 'hidden'"),
        ("logistic-digits", {"penalty": -1}, "penalty must be a finite number of at least 0"),
        ("autoencoder-digits", {"hidden": 8}, "hidden must be a list of widths"),
        ("conv-digits", {"channels": ()}, "channels must be a list of numbers"),
        ("conv-digits", {"channels": (4, 0)}, "a convolution's number of channels must be"),
        ("resnet18-cifar10", {"width": 0}, "width must be a whole number"),
        ("resnet18-cifar10", {"batch_size": 1}, "batch_size with batch normalisation must be .* at least 2, not 1"),
        ("mobilenetv2-cifar10", {"width": 1.5}, "width must be a whole number"),
        ("transformer-python", {"heads": 5}, "width must be a multiple of heads, which is 5, not 64"),
        ("vit-fashion-mnist", {"heads": 5}, "width must be a multiple of heads, which is 5, not 64"),
        ("vit-fashion-mnist", {"patch": 5}, "patch must divide the image's 28 rows and 28 columns, not 5"),
        ("fine-tuning-fashion-mnist", {"past_lr": 0}, "past_lr must be a finite number above 0, not 0"),
        ("burgers", {"batch_size": 3}, "batch_size must be a whole number of at least 4, not 3"),
        ("burgers", {"viscosity": 0}, "viscosity must be a finite number above 0"),
        ("implicit-image", {"frequency": -1}, "frequency must be a finite number above 0"),
        ("factorisation", {"rank": 0}, "rank must be a whole number"),
        ("deep-linear", {"noise": -1}, "noise must be a finite number of at least 0"),
        ("gru-python", {"window": 0}, "window must be a whole number"),
        ("lasso", {"nonzeros": 51}, "nonzeros must be at most dim, which is 50, not 51"),
        ("lasso", {"penalty": 0}, "penalty must be a finite number of at least 0.0001, not 0"),
        ("rastrigin", {"dim": 0}, "dim must be a whole number"),
    ],
)
def test_senseless_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tasks.TASKS[name](**options)


def test_missing_data_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(DataError, match="does not exist or is not a folder"):
            tasks.get("mlp-mnist", data_dir=folder)
    with pytest.raises(DataError, match=r"Fashion-MNIST is not in .*dataset-fashion-mnist, or pass --data-dir"):
        tasks.get("mlp-fashion-mnist", data_dir=tmp_path)


def test_import_and_listing_load_no_heavy_library() -> None:
    code = (
        "import sys; from closedform import tasks\n"
        "for make in tasks.TASKS.values(): task = make(); task.size, task.data\n"
        "print(*({'sklearn', 'pooch', 'scipy', 'mnist1d'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
