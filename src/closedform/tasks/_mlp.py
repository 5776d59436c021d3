"""Classify images with a small multi-layer perceptron: the paper's optimizee, and a smaller one that needs no files.

Layers are called ``layer1.weight`` [out, in], ``layer1.bias`` [out], ``layer2.weight``, ... The loss is the minibatch's
mean cross-entropy. Meta-training spends much of its time in these networks' gradients, and for networks this small
autograd's own bookkeeping costs more than the arithmetic: so ``loss_and_grad`` is written by hand. Its readable twin is
``Task.loss_and_grad``, and the tests hold the two together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform.errors import OptionError
from closedform.tasks._base import SPLITS, Batch, Params, Task, check_count, check_number, with_options
from closedform.tasks._idx_files import FASHION_MNIST, MNIST, IdxSource
from closedform.tasks._images import DigitsSource, ImageSource


@dataclass(frozen=True)
class Activation:
    """An elementwise function, and its derivative written in terms of its own output."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(torch.relu, torch.sign),  # the output is never negative
    "sigmoid": Activation(torch.sigmoid, lambda output: output * (1 - output)),
    "tanh": Activation(torch.tanh, lambda output: 1 - output.square()),
}


@dataclass(frozen=True)
class MLPOptions:
    """What can be chosen about an MLP task.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: A name in ``ACTIVATIONS``.
        batch_size: Images a minibatch.
        horizon: Steps an episode.
        init_std: Standard deviation of the initial weights; biases start at zero.
        black: What a black pixel becomes; a white one becomes ``black + 1``.
    """

    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_size: int = 128
    horizon: int = 620
    init_std: float = 0.01
    black: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, (tuple, list)):
            raise OptionError(f"hidden must be a list of widths such as (50, 20), not {self.hidden!r}")
        for width in self.hidden:
            check_count("a hidden layer's width", width)
        check_count("batch_size", self.batch_size)
        check_count("horizon", self.horizon)
        lookup("activation", self.activation, ACTIVATIONS)
        check_number("init_std", self.init_std, least=0)
        check_number("black", self.black, least=-1)


class MLPTask(Task):
    """Classify a source's images.

    Args:
        name: The task's name.
        images: Where the images come from; read when a batch is first asked for.
        options: Network, batch and episode.
        source: Where the problem comes from.
    """

    def __init__(self, name: str, images: ImageSource, options: MLPOptions, source: str) -> None:
        self.name = name
        self.horizon = options.horizon
        self.source = source
        self.data = images.data
        self.options = options
        widths = (images.pixels, *options.hidden, images.classes)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._layers = [(f"layer{i}.weight", f"layer{i}.bias") for i in range(1, len(widths))]
        for (weight, bias), (inputs, outputs) in zip(self._layers, itertools.pairwise(widths), strict=True):
            self._shapes[weight] = (outputs, inputs)
            self._shapes[bias] = (outputs,)
        self._activation = ACTIVATIONS[options.activation]
        self._source = images
        self._one_hot = torch.eye(images.classes)
        self._splits: dict[str, Batch] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._shapes)

    def init(self, generator: torch.Generator) -> Params:
        return {
            name: self._normal(shape, generator) * self.options.init_std
            if name.endswith("weight")
            else torch.zeros(shape, device=self.device, dtype=self.dtype)
            for name, shape in self._shapes.items()
        }

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        pixels, labels = self.full(split)
        size = (self.options.batch_size,)
        rows = torch.randint(len(labels), size, generator=generator, device=generator.device).to(self.device)
        return pixels.index_select(0, rows), labels.index_select(0, rows)

    def full(self, split: str) -> Batch:
        if split not in self._splits:
            lookup("split", split, SPLITS)
            images = self._source.images
            rows = images.splits[split]
            pixels = images.pixels[rows].to(self.device, self.dtype).div_(images.white).add_(self.options.black)
            self._splits[split] = (pixels, images.labels[rows].to(self.device))
        return self._splits[split]

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._forward(params, batch[0])[1], batch[1])

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        _, logits = self._forward(params, batch[0])
        right = (logits.argmax(dim=-1) == batch[1]).to(torch.float64).mean()
        return {"loss": float(functional.cross_entropy(logits, batch[1])), "accuracy": float(right)}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MLPTask:
        moved = super().to(device, dtype)
        moved._one_hot = self._one_hot.to(moved.device, moved.dtype)
        moved._splits = {}
        return moved

    def available(self) -> str | None:
        return self._source.available()

    def prepare(self) -> None:
        self._source.prepare()

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient by hand-written backpropagation; works under ``vmap`` too."""
        pixels, labels = batch
        inputs, logits = self._forward(params, pixels)
        log_probabilities = torch.log_softmax(logits, dim=-1)
        loss = functional.nll_loss(log_probabilities, labels)
        # The loss's derivative in a layer's output before its activation, [batch, out]; last layer first.
        delta = log_probabilities.exp().sub_(self._one_hot.index_select(0, labels)).div_(len(labels))
        grads: Params = {}
        for layer in reversed(range(len(self._layers))):
            weight, bias = self._layers[layer]
            grads[weight] = delta.t() @ inputs[layer]
            grads[bias] = delta.sum(0)
            if layer:
                delta = (delta @ params[weight]).mul_(self._activation.derivative(inputs[layer]))
        return loss, {name: grads[name] for name in params}

    def _forward(self, params: Params, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each layer's input, [batch, in], and the last one's output, [batch, classes]."""
        inputs: list[Tensor] = []
        output = pixels
        for weight, bias in self._layers:
            inputs.append(self._activation.function(output) if inputs else pixels)
            output = functional.linear(inputs[-1], params[weight], params[bias])
        return inputs, output


def mlp_digits(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """The default task: 64-20-10 on scikit-learn's digits, batch 128, 200 steps. ``data_dir`` is not needed.

    The paper's MNIST network made small: the same ReLU and the same N(0, 0.01^2) weights. It has one hidden layer,
    since with two of them SGD does not leave the initial plateau within the horizon at any learning rate, and a
    comparison with it would be a foregone conclusion.
    """
    chosen = with_options(MLPOptions(hidden=(20,), horizon=200), options, "mlp-digits")
    return MLPTask("mlp-digits", DigitsSource(), chosen, "after Zheng et al. 2022, their MNIST MLP made small")


def mlp_mnist(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """The paper's optimizee: 784-50-20-10 on MNIST, ReLU, N(0, 0.01^2) weights, batch 128, 620 steps.

    Pixels are in [0, 1]; ``black=-0.5`` gives the [-0.5, 0.5] of the paper's released code, which is a harder problem.
    """
    chosen = with_options(MLPOptions(hidden=(50, 20)), options, "mlp-mnist")
    return MLPTask("mlp-mnist", IdxSource(MNIST, data_dir), chosen, "Zheng et al. 2022, section 4; LeCun et al. 1998")


def mlp_fashion_mnist(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """The network of ``mlp-mnist`` on Fashion-MNIST, for judging optimizers on data that they have not seen."""
    chosen = with_options(MLPOptions(hidden=(50, 20)), options, "mlp-fashion-mnist")
    source = "Zheng et al. 2022's MLP; data: Xiao, Rasul & Vollgraf 2017"
    return MLPTask("mlp-fashion-mnist", IdxSource(FASHION_MNIST, data_dir), chosen, source)
