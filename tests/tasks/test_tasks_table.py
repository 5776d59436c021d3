"""What every task promises, checked over the whole table; those whose data are not here are skipped with a reason."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import grad_and_value, vmap

from closedform import tasks
from closedform.errors import DataError, OptionError, UnknownNameError


@pytest.fixture(params=sorted(tasks.TASKS), scope="module")
def task(request: pytest.FixtureRequest) -> tasks.Task:
    member = tasks.TASKS[request.param]()
    missing = member.available()
    if missing is not None:
        pytest.skip(missing)
    return member


def start(task: tasks.Task, seed: int = 0) -> tuple[tasks.Params, tasks.Batch]:
    generator = torch.Generator().manual_seed(seed)
    params = {name: value + 0.1 for name, value in task.init(generator).items()}
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
    assert metrics["loss"] == float(task.loss(params, batch))
    assert all(isinstance(value, float) for value in metrics.values())
    assert 0 <= metrics.get("accuracy", 0.0) <= 1


def test_gradient_is_that_of_finite_differences(task: tasks.Task) -> None:
    task = task.to(dtype=torch.float64)
    params, batch = start(task)
    _, grads = task.loss_and_grad(params, batch)
    assert list(grads) == list(params)
    generator = torch.Generator().manual_seed(3)
    for name, value in params.items():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        step = 1e-6 / direction.norm()
        ahead, behind = (task.loss({**params, name: value + s * direction}, batch) for s in (step, -step))
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close((grads[name] * direction).sum(), slope, rtol=1e-5, atol=1e-8)


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


def test_optimizees_side_by_side_under_vmap(task: tasks.Task) -> None:
    task = task.to(dtype=torch.float64)
    starts = [start(task, seed) for seed in range(3)]
    params = {name: torch.stack([each[name] for each, _ in starts]) for name in task.shapes}
    batches = tuple(torch.stack(each) for each in zip(*(batch for _, batch in starts), strict=True))
    grads, losses = vmap(grad_and_value(task.loss))(params, batches)
    for k, (each, batch) in enumerate(starts):
        loss, grad = task.loss_and_grad(each, batch)
        torch.testing.assert_close(losses[k], loss)
        torch.testing.assert_close({name: value[k] for name, value in grads.items()}, grad)


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
    ],
)
def test_senseless_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tasks.get(name, **options)


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
        "print(*({'sklearn', 'pooch', 'scipy'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
