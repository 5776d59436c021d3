"""A stack of fully connected layers, with its backward pass written by hand.

Meta-training spends much of its time in the gradients of small networks, and for networks this small autograd's own
bookkeeping costs more than the arithmetic: so the tasks that are made of this network write their ``loss_and_grad`` by
hand, with ``backward``. The readable twin is ``Task.loss_and_grad``, and the tests hold the two together.

Layers are called ``layer1.weight`` [out, in], ``layer1.bias`` [out], ``layer2.weight``, ...
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.tasks._base import Params
from closedform.tasks._network import Spec, Specs


@dataclass(frozen=True)
class Activation:
    """An elementwise function, its derivative in terms of its own output, and the gain that keeps a signal's size."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    gain: float = 1.0


def _identity(x: Tensor) -> Tensor:
    return x


def _sigmoid_derivative(output: Tensor) -> Tensor:
    return output * (1 - output)


def _tanh_derivative(output: Tensor) -> Tensor:
    return 1 - output.square()


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(torch.relu, torch.sign, math.sqrt(2)),  # the output is never negative
    "sigmoid": Activation(torch.sigmoid, _sigmoid_derivative),
    "tanh": Activation(torch.tanh, _tanh_derivative),
    "linear": Activation(_identity, torch.ones_like),
}


class Dense:
    """Fully connected layers with an activation between them.

    Args:
        widths: Numbers of inputs, of every hidden layer's units, and of outputs.
        activation: Between layers; the last one's output is as it is.
        init_std: Standard deviation of the initial weights; None scales it with a layer's inputs, so that a signal
            keeps its size on the way through (gain/sqrt(inputs)). Biases start at zero.
    """

    def __init__(self, widths: Sequence[int], activation: Activation, init_std: float | None) -> None:
        self.specs: Specs = {}
        self.layers = [(f"layer{i}.weight", f"layer{i}.bias") for i in range(1, len(widths))]
        for (weight, bias), (inputs, outputs) in zip(self.layers, itertools.pairwise(widths), strict=True):
            std = activation.gain / math.sqrt(inputs) if init_std is None else init_std
            self.specs[weight] = Spec((outputs, inputs), std)
            self.specs[bias] = Spec((outputs,))
        self.activation = activation

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        return self.trace(params, inputs)[1]

    def trace(self, params: Params, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each layer's input, [batch, in], and the last one's output, [batch, out]."""
        seen: list[Tensor] = []
        output = inputs
        for weight, bias in self.layers:
            seen.append(self.activation.function(output) if seen else inputs)
            output = functional.linear(seen[-1], params[weight], params[bias])
        return seen, output

    def backward(self, params: Params, seen: list[Tensor], delta: Tensor) -> Params:
        """The loss's gradient, in the order of ``params``.

        Args:
            params: The parameters.
            seen: Each layer's input, from ``trace``.
            delta: The loss's derivative in the output, [batch, out]; overwritten.
        """
        grads: Params = {}
        for layer in reversed(range(len(self.layers))):
            weight, bias = self.layers[layer]
            grads[weight] = delta.t() @ seen[layer]
            grads[bias] = delta.sum(0)
            if layer:
                delta = (delta @ params[weight]).mul_(self.activation.derivative(seen[layer]))
        return {name: grads[name] for name in params}


def check_hidden(hidden: object) -> None:
    """Raise OptionError unless ``hidden`` is a list of layers' widths."""
    if not isinstance(hidden, (tuple, list)):
        raise OptionError(f"hidden must be a list of widths such as (50, 20), not {hidden!r}")
    for width in hidden:
        check_count("a hidden layer's width", width)
