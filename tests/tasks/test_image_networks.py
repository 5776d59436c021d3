"""Convolutional networks: published sizes, torch.nn as the reference, batch normalisation without memory, learning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from closedform import tasks
from closedform.errors import OptionError
from closedform.tasks._convnet import ConvNet
from closedform.tasks._convolutions import ConvNorm
from closedform.tasks._image_task import ClassifyTask, ImageTask
from closedform.tasks._images import DigitsSource
from closedform.tasks._mobilenet import InvertedResidual, MobileNetOptions, MobileNetV2, _mobilenet
from closedform.tasks._network import Specs
from closedform.tasks._resnet import DESIGNS, Block, ResNet, ResNetOptions, _resnet
from closedform.tasks._sources import IMAGES


def size(specs: Specs) -> int:
    return sum(torch.Size(spec.shape).numel() for spec in specs.values())


def drawn(specs: Specs, seed: int = 0) -> tasks.Params:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(spec.shape, generator=generator, dtype=torch.float64) for name, spec in specs.items()}


def load(module: nn.Module, params: tasks.Params) -> nn.Module:
    """The module with these parameters, in their order, normalising by the batch as the functional networks do."""
    module = module.double().train()
    names = [name for name, _ in module.named_parameters()]
    missing = module.load_state_dict(dict(zip(names, params.values(), strict=True)), strict=False).missing_keys
    assert all("running" in name or "tracked" in name for name in missing)
    return module


@pytest.mark.parametrize(
    ("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (152, 60_192_808)]
)
def test_resnets_have_the_published_size_but_for_the_stem(depth: int, published: int) -> None:
    network = ResNet((3, 224, 224), 1000, DESIGNS[str(depth)], 64)
    assert size(network.specs) == published - 3 * 64 * (7 * 7 - 3 * 3)  # a 3x3 stem instead of 7x7


def test_mobilenet_has_the_published_size() -> None:
    assert size(MobileNetV2((3, 224, 224), 1000, 32).specs) == 3_504_872


def test_cifar_networks_have_their_customary_sizes() -> None:
    assert tasks.TASKS["resnet18-cifar10"]().size == 11_173_962
    assert tasks.TASKS["resnet50-cifar10"]().size == 23_520_842
    assert tasks.TASKS["mobilenetv2-cifar10"]().size == 2_236_682


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module | None, last: nn.Module) -> None:
        super().__init__()
        self.body, self.last = body, last
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + self.shortcut(x))


RELU, RELU6 = nn.ReLU, nn.ReLU6
BLOCKS = {
    "basic": (
        Block("b", 4, 4, 1, 1),
        Residual(nn.Sequential(*conv(4, 4, 3), RELU(), *conv(4, 4, 3)), None, RELU()),
    ),
    "basic, halving": (
        Block("b", 4, 6, 2, 1),
        Residual(nn.Sequential(*conv(4, 6, 3, 2), RELU(), *conv(6, 6, 3)), nn.Sequential(*conv(4, 6, 1, 2)), RELU()),
    ),
    "bottleneck": (
        Block("b", 12, 3, 1, 4),
        Residual(nn.Sequential(*conv(12, 3, 1), RELU(), *conv(3, 3, 3), RELU(), *conv(3, 12, 1)), None, RELU()),
    ),
    "bottleneck, halving": (
        Block("b", 4, 3, 2, 4),
        Residual(
            nn.Sequential(*conv(4, 3, 1), RELU(), *conv(3, 3, 3, 2), RELU(), *conv(3, 12, 1)),
            nn.Sequential(*conv(4, 12, 1, 2)),
            RELU(),
        ),
    ),
    "inverted": (
        InvertedResidual("b", 4, 4, 6, 1),
        Residual(
            nn.Sequential(*conv(4, 24, 1), RELU6(), *conv(24, 24, 3, 1, 24), RELU6(), *conv(24, 4, 1)),
            None,
            nn.Identity(),
        ),
    ),
    "inverted, halving": (
        InvertedResidual("b", 4, 5, 6, 2),
        nn.Sequential(*conv(4, 24, 1), RELU6(), *conv(24, 24, 3, 2, 24), RELU6(), *conv(24, 5, 1)),
    ),
    "inverted, not expanded": (
        InvertedResidual("b", 4, 3, 1, 1),
        nn.Sequential(*conv(4, 4, 3, 1, 4), RELU6(), *conv(4, 3, 1)),
    ),
    "convolution": (ConvNorm("b", 4, 5, stride=2), nn.Sequential(*conv(4, 5, 3, 2), RELU())),
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("side", [7, 8])
def test_blocks_are_those_of_torch_nn(kind: str, side: int, generator: torch.Generator) -> None:
    block, reference = BLOCKS[kind]
    params = drawn(block.specs)
    first = next(module for module in reference.modules() if isinstance(module, nn.Conv2d))
    x = torch.randn(5, first.in_channels, side, side, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(block(params, x), load(reference, params)(x), rtol=1e-11, atol=1e-11)


def test_convnet_is_that_of_torch_nn(generator: torch.Generator) -> None:
    network = ConvNet((3, 9, 12), 7, (4, 5))
    params = drawn(network.specs)
    convolutions = [nn.Conv2d(3, 4, 3, 2, 1), RELU(), nn.Conv2d(4, 5, 3, 2, 1), RELU()]
    reference = nn.Sequential(nn.Unflatten(1, (3, 9, 12)), *convolutions, nn.Flatten(), nn.Linear(5 * 3 * 3, 7))
    x = torch.rand(6, 3 * 9 * 12, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(network(params, x), load(reference, params)(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("images", ["mnist", "cifar10"])
@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_halves_small_images_three_times(images: str, depth: int) -> None:
    source = IMAGES[images](None)
    network = ResNet(source.shape, 10, DESIGNS[str(depth)], 4)
    x = network.stem(drawn(network.specs), torch.rand(2, *source.shape, dtype=torch.float64))
    for block in network.blocks:
        x = block(drawn(network.specs), x)
    assert x.shape[-2:] == (4, 4)  # 28 -> 14 -> 7 -> 4, and 32 -> 16 -> 8 -> 4


def test_signal_keeps_its_size_on_the_way_through() -> None:
    """At the starting point, logits are neither nothing nor huge: the initial loss is near that of a guess."""
    for name in ("conv-digits", "conv-mnist", "resnet18-mnist", "resnet50-cifar10", "mobilenetv2-mnist"):
        options: dict[str, Any] = {} if name.startswith("conv") else {"width": 8, "batch_size": 16}
        task = tasks.TASKS[name](**options)
        assert isinstance(task, ImageTask)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(16, task.images.pixels, generator=generator) - 0.5
        loss = task.loss(task.init(generator), (pixels, torch.arange(16) % 10))
        assert 1.5 < float(loss) < 6


def digits_task(name: str, **options: Any) -> ClassifyTask:
    """A family's network on real images that are small and always here."""
    make, defaults = {"resnet": (_resnet, ResNetOptions), "mobilenet": (_mobilenet, MobileNetOptions)}[name]
    return make(f"{name}-digits", DigitsSource(), defaults(**options), "test")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "options"), [("resnet", {}), ("resnet", {"depth": 50}), ("mobilenet", {})])
def test_learns_real_digits(name: str, options: dict[str, Any], generator: torch.Generator) -> None:
    task = digits_task(name, width=8, batch_size=32, **options)
    leaves = {key: value.requires_grad_() for key, value in task.init(generator).items()}
    adam = torch.optim.Adam(leaves.values(), lr=0.01, foreach=True)
    for _ in range(40):
        _, grads = task.loss_and_grad(leaves, task.batch("train", generator))
        for key, leaf in leaves.items():
            leaf.grad = grads[key]
        adam.step()
    assert task.metrics(leaves, task.full("test"))["accuracy"] > 0.3  # a guess: 0.1


def test_batch_normalisation_measures_in_chunks_of_a_minibatch(generator: torch.Generator) -> None:
    task = digits_task("resnet", width=4, batch_size=40)
    params, (pixels, labels) = task.init(generator), task.full("test")
    parts = list(zip(pixels.tensor_split(9), labels.tensor_split(9), strict=True))  # 359 images: 9 chunks of 39 or 40
    losses = [float(task.loss(params, part)) * len(part[1]) for part in parts]
    assert task.metrics(params, (pixels, labels))["loss"] == pytest.approx(sum(losses) / 359, rel=1e-6)
    assert task.metrics(params, (pixels, labels))["loss"] != float(task.loss(params, (pixels, labels)))


def test_measuring_in_chunks_changes_nothing_without_normalisation(generator: torch.Generator) -> None:
    task = tasks.get("conv-digits")
    assert isinstance(task, ClassifyTask)
    params, batch = task.init(generator), task.full("train")
    whole = task.metrics(params, batch)
    task.chunk = 100
    assert task.metrics(params, batch) == pytest.approx(whole, rel=1e-6)


def test_images_of_another_shape_are_refused() -> None:
    task = tasks.TASKS["conv-mnist"]()
    with pytest.raises(OptionError, match=r"takes images of shape \(1, 28, 28\) in 10 classes, not \(1, 8, 8\) in 10"):
        task.with_images(DigitsSource())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in tasks.TASKS if name.startswith(("resnet", "mobilenet"))])
def test_full_size_networks_compute(name: str, generator: torch.Generator) -> None:
    task = tasks.TASKS[name](batch_size=2)
    assert isinstance(task, ImageTask)
    batch = (torch.rand(2, task.images.pixels, generator=generator) - 0.5, torch.tensor([0, task.images.classes - 1]))
    assert task.loss(task.init(generator), batch).isfinite()
