"""RNNprop: an LSTM that reads normalised gradients and prints a bounded update, one for every parameter.

    x = ELU(W features + b);  h = LSTM(x);  update = scale * tanh(v . h + c)

Source: Lv, Jiang & Li 2017, Learning Gradient Descent: Better Generalization and Longer Horizons, section 4; in the
smaller sizes, and with n~ as a further input, Zheng et al. 2022, Symbolic Learning to Optimize.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform.learned_optimizers._lstm import uniform
from closedform.learned_optimizers._native_lstm import Shape
from closedform.learned_optimizers._recurrent import RecurrentOptimizer, RecurrentSize

SCALE = 0.1
"""Default of the largest update, as in the paper of 2017. With the 0.01 of Zheng et al. 2022 the network learns to take
full steps all the time; on mlp-digits it then ends ten times higher, and on larger optimizees it diverges."""


@dataclass(frozen=True)
class RNNpropSize(RecurrentSize):
    """What one size of RNNprop is made of.

    Attributes:
        width: Units of the ELU layer.
    """

    width: int


class RNNprop(RecurrentOptimizer):
    """RNNprop in one size.

    Args:
        name: Its name in the family.
        size: Features and layers.
        generator: Draws the initial weights.
        scale: The largest update, in units of the optimizee's parameters.
        clock: How it can know how far the episode is: a name in ``CLOCKS``.

    Raises:
        OptionError: the scale is not a positive number.
    """

    source = "Lv, Jiang & Li 2017, RNNprop; small sizes: Zheng et al. 2022"
    size: RNNpropSize

    def __init__(
        self,
        name: str,
        size: RNNpropSize,
        generator: torch.Generator | None = None,
        scale: float = SCALE,
        clock: str = "own",
    ) -> None:
        super().__init__(name, size, generator, scale, clock)

    def add_input_layer(self, generator: torch.Generator | None) -> int:
        bound = 1 / math.sqrt(len(self.features))
        self.input_weight = uniform((self.size.width, len(self.features)), bound, generator)
        self.input_bias = uniform((self.size.width, 1), bound, generator)
        return self.size.width

    def enter(self, columns: Tensor) -> Tensor:
        return functional.elu(torch.addmm(self.input_bias, self.input_weight, columns))

    def native_shape(self) -> Shape:
        return Shape(len(self.features), self.size.width, self.size.hidden, self.size.layers, bounded=True)

    def leave(self, output: Tensor) -> Tensor:
        return torch.tanh(output)


RNNPROP_SIZES = {
    "rp": RNNpropSize(("m_tilde", "g_tilde"), hidden=20, layers=2, width=20),
    "rp-s": RNNpropSize(("m_tilde", "g_tilde"), hidden=7, layers=1, width=6),
    "rp-si": RNNpropSize(("m_tilde", "g_tilde", "n_tilde"), hidden=7, layers=1, width=6),
    "rp-si-large": RNNpropSize(("m_tilde", "g_tilde", "n_tilde"), hidden=12, layers=1, width=9),
}
