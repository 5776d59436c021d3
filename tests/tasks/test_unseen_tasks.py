"""The tasks kept for judging: each against torch.nn, a closed form, or a known optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.func import jacfwd, vmap

from closedform import tasks
from closedform.errors import OptionError
from closedform.tasks._burgers import Burgers
from closedform.tasks._deep_linear import DeepLinear
from closedform.tasks._factorisation import Factorisation
from closedform.tasks._fine_tuning import FineTuning, FineTuningOptions
from closedform.tasks._images import DigitsSource
from closedform.tasks._implicit_image import ImplicitImage
from closedform.tasks._language import LanguageTask
from closedform.tasks._text import ALPHABET
from closedform.tasks._vit import ViT, ViTOptions


def double(params: tasks.Params, seed: int = 0) -> tasks.Params:
    """Random values in float64, of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in params.items()}


def adam(task: tasks.Task, steps: int, lr: float) -> tasks.Params:
    generator = torch.Generator().manual_seed(0)
    leaves = {name: value.requires_grad_() for name, value in task.init(generator).items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=lr, foreach=True)
    for _ in range(steps):
        for leaf, grad in zip(
            leaves.values(), task.loss_and_grad(leaves, task.batch("eval", generator))[1].values(), strict=True
        ):
            leaf.grad = grad
        optimizer.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def test_there_are_ten_of_many_kinds_and_not_too_short() -> None:
    assert len(set(tasks.UNSEEN)) == 10
    made = [tasks.TASKS[name]() for name in tasks.UNSEEN]
    assert len({type(getattr(task, "_network", task)) for task in made}) == 10
    assert all(800 <= task.horizon <= 2500 for task in made)


def test_lstm_is_that_of_torch_nn(generator: torch.Generator) -> None:
    task = tasks.TASKS["lstm-python"](width=6)
    assert isinstance(task, LanguageTask)
    params = double(task.init(generator))
    cell = nn.LSTM(6, 6, batch_first=True).double()
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    values = [params[name] for name in ("input.weight", "input.bias", "hidden.weight", "hidden.bias")]
    cell.load_state_dict(dict(zip(names, values, strict=True)))
    inputs = torch.randint(ALPHABET, (4, 9), generator=generator)
    expected = cell(params["character"][inputs])[0] @ params["head.weight"].T + params["head.bias"]
    torch.testing.assert_close(task._network(params, inputs), expected)


def test_patches_are_squares_of_the_image_row_by_row() -> None:
    network = ViT((2, 4, 6), 3, ViTOptions(patch=2, width=8))
    image = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    patches = network.patches(image.flatten(1))
    assert patches.shape == (1, 6, 8)
    expected = nn.functional.unfold(image, 2, stride=2).transpose(1, 2)
    torch.testing.assert_close(patches, expected)
    with pytest.raises(OptionError, match="patch must divide the image's 4 rows and 6 columns, not 3"):
        ViT((2, 4, 6), 3, ViTOptions(patch=3))


def test_patches_may_come_in_any_order_if_their_places_go_along(generator: torch.Generator) -> None:
    network = ViT((1, 4, 4), 3, ViTOptions(patch=2, width=8))
    params = {
        name: torch.randn(spec.shape, generator=generator, dtype=torch.float64) for name, spec in network.specs.items()
    }
    image = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64)
    order = torch.tensor([1, 0, 3, 2])  # the left half swapped with the right
    swapped = torch.cat(image.split(2, dim=-1)[::-1], dim=-1)
    torch.testing.assert_close(network.patches(swapped.flatten(1)), network.patches(image.flatten(1))[:, order])
    expected = network(params, image.flatten(1))
    moved = network({**params, "place": params["place"][order]}, swapped.flatten(1))
    torch.testing.assert_close(moved, expected)
    assert (network(params, swapped.flatten(1)) - expected).abs().max() > 1e-3


def test_derivatives_of_the_physics_informed_network_are_autograds(generator: torch.Generator) -> None:
    task = tasks.TASKS["burgers"](width=5, layers=3).to(dtype=torch.float64)
    assert isinstance(task, Burgers)
    params = double(task.init(generator))

    def u(point: torch.Tensor) -> torch.Tensor:
        return task.network(params, point)[0]

    points = torch.rand(7, 2, generator=generator, dtype=torch.float64)
    slopes, curvatures = vmap(jacfwd(u))(points), vmap(jacfwd(jacfwd(u)))(points)
    expected = (vmap(u)(points), slopes[:, 0], slopes[:, 1], curvatures[:, 0, 0])
    for found, known in zip(task.derivatives(params, points), expected, strict=True):
        torch.testing.assert_close(found, known)


def test_an_exact_solution_of_burgers_equation_has_no_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    """u = -sin(pi x) at the start and 0 at the walls; inside, the travelling wave a - tanh((x - a t)/(2 nu))."""
    nu, speed = 0.2, 0.3
    task = tasks.TASKS["burgers"](viscosity=nu).to(dtype=torch.float64)
    assert isinstance(task, Burgers)

    def wave(params: tasks.Params, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = torch.tanh((points[:, 0] - speed * points[:, 1]) / (2 * nu))
        slope = (1 - z.square()) / (2 * nu)
        return speed - z, -slope, speed * slope, 2 * z * slope / (2 * nu)

    def boundary(params: tasks.Params, points: torch.Tensor) -> torch.Tensor:
        walls = points[..., :1].abs() == 1
        return torch.where(walls, 0.0, -torch.sin(math.pi * points[..., :1]))

    monkeypatch.setattr(task, "derivatives", wave)
    monkeypatch.setattr(task, "network", boundary)
    batch = task.batch("eval", torch.Generator().manual_seed(0))
    assert float(task.loss({}, batch)) < 1e-24
    assert [tuple(part.shape) for part in batch] == [(256, 2), (64,), (64, 2)]
    assert batch[2][:, 0].abs().unique().tolist() == [1.0]


def test_deep_linear_network_reaches_the_least_squares_loss_but_not_below() -> None:
    task = tasks.TASKS["deep-linear"](inputs=6, outputs=3, width=8, layers=3, rows=512)
    assert isinstance(task, DeepLinear)
    inputs, targets = task.full("eval")
    design = torch.cat([inputs, torch.ones(512, 1)], dim=1)
    best = float((design @ torch.linalg.lstsq(design, targets).solution - targets).square().mean())
    assert best == pytest.approx(0.03**2, rel=0.15)
    found = task.metrics(adam(task, 400, 0.01), (inputs, targets))["loss"]
    assert best <= found < 1.1 * best


def test_factorisation_finds_the_entries_up_to_their_noise() -> None:
    task = tasks.TASKS["factorisation"](rows=40, columns=30, rank=2, width=3, observed=4000, noise=0.1)
    assert isinstance(task, Factorisation)
    found = task.metrics(adam(task, 400, 0.03), task.full("test"))["loss"]  # other noise on the same entries
    assert 0.1**2 < found < 1.5 * 0.1**2
    splits = [task.full(split)[0] for split in tasks.SPLITS]
    assert not torch.equal(splits[0], splits[1])


def test_an_implicit_image_is_a_picture_in_disjoint_pixels() -> None:
    task = tasks.TASKS["implicit-image"]()
    assert isinstance(task, ImplicitImage)
    places = torch.cat([task.full(split)[0] for split in tasks.SPLITS])
    assert len(places) == len(places.unique(dim=0)) == 106 * 160
    colours = torch.cat([task.full(split)[1] for split in tasks.SPLITS])
    assert colours.abs().max() <= 1
    variance = float(task.full("test")[1].var(correction=0))
    assert task.metrics(adam(task, 60, 3e-3), task.full("test"))["loss"] < 0.4 * variance


def fine_tuning(**options: int) -> FineTuning:
    chosen = FineTuningOptions(channels=(8, 16), **options)  # type: ignore[arg-type]
    return FineTuning("fine-tuning-digits", DigitsSource(), chosen, "test")


def test_fine_tuning_is_on_the_other_classes_and_helps(generator: torch.Generator) -> None:
    task = fine_tuning(past_steps=150, batch_size=32)
    pixels, labels = task.full("eval")
    assert labels.unique().tolist() == [0, 1, 2, 3, 4]
    everything = task.images.images
    rows = everything.splits["eval"]
    assert len(pixels) == int((everything.labels[rows] >= 5).sum())
    start, other = task.init(generator), task.init(generator)
    assert torch.equal(start["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(start["head.weight"], other["head.weight"])


def test_what_was_learned_of_the_past_helps() -> None:
    def after(past_steps: int) -> float:
        task = fine_tuning(past_steps=past_steps, batch_size=32)
        return task.metrics(adam(task, 60, 1e-3), task.full("eval"))["loss"]

    assert after(400) < 0.9 * after(1)
