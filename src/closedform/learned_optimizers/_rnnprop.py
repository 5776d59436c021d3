"""RNNprop: an LSTM that reads normalised gradients and prints a bounded update, one for every parameter.

    x = ELU(W features + b);  h = LSTM(x);  update = scale * tanh(v . h + c)

Source: Lv, Jiang & Li 2017, Learning Gradient Descent: Better Generalization and Longer Horizons, section 4; in the
smaller sizes, and with n~ as a further input, Zheng et al. 2022, Symbolic Learning to Optimize.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from closedform.errors import OptionError
from closedform.features import feature_program
from closedform.lang import initial_memory, reduce_whole
from closedform.learned_optimizers._base import LearnedOptimizer, State, UpdateFunction
from closedform.learned_optimizers._lstm import LSTMCell, uniform
from closedform.learned_optimizers._plan import Plan

SCALE = 0.1
"""Default of the largest update, as in the paper of 2017. With the 0.01 of Zheng et al. 2022 the network learns to take
full steps all the time; on mlp-digits it then ends ten times higher, and on larger optimizees it diverges."""


@dataclass(frozen=True)
class RNNpropSize:
    """What one size of RNNprop is made of.

    Attributes:
        features: Names of the input features.
        width: Units of the ELU layer.
        hidden: Units of each LSTM layer.
        layers: LSTM layers.
    """

    features: tuple[str, ...]
    width: int
    hidden: int
    layers: int


class RNNprop(LearnedOptimizer):
    """RNNprop in one size.

    The output layer starts at zero: an untrained network stands still, and the first meta-gradients turn it downhill. A
    random one that happens to climb drives optimizees to where nothing can be learned but to stand still again.

    The state holds the step ``t``, the features' recurrences as ``feature.m``, ..., and ``hidden1``, ``cell1``, ...,
    [hidden, N] each.

    Args:
        name: Its name in the family.
        size: Features and layers.
        generator: Draws the initial weights.
        scale: The largest update, in units of the optimizee's parameters.

    Raises:
        OptionError: the scale is not a positive number.
    """

    def __init__(
        self, name: str, size: RNNpropSize, generator: torch.Generator | None = None, scale: float = SCALE
    ) -> None:
        super().__init__()
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise OptionError(f"scale must be a finite number above 0, not {scale!r}")
        self.name = name
        self.size = size
        self.scale = scale
        self.features = size.features
        self._inputs = Plan(feature_program(size.features).merged)
        self.state_cost = self._inputs.program.buffers + 2 * size.hidden * size.layers
        fan_in = 1 / math.sqrt(len(size.features))
        self.input_weight = uniform((size.width, len(size.features)), fan_in, generator)
        self.input_bias = uniform((size.width, 1), fan_in, generator)
        widths = [size.width, *[size.hidden] * (size.layers - 1)]
        self.cells = nn.ModuleList(LSTMCell(width, size.hidden, generator) for width in widths)
        self.output_weight = nn.Parameter(torch.zeros(1, size.hidden))
        self.output_bias = nn.Parameter(torch.zeros(1, 1))

    def init_state(self, w: Tensor, sizes: Sequence[int] | None = None) -> State:
        state = {"t": torch.zeros((), dtype=torch.float64)}
        state |= {f"feature.{key}": value for key, value in initial_memory(self._inputs.program, w, flat=True).items()}
        for layer in range(1, self.size.layers + 1):
            state |= {f"{part}{layer}": w.new_zeros(self.size.hidden, w.numel()) for part in ("hidden", "cell")}
        return state

    def bind(self) -> UpdateFunction:
        features = self._inputs.bind()
        cells = [cell.bind() for cell in self.cells]  # type: ignore[operator]

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            t = state["t"] + 1
            memory = {key[8:]: value for key, value in state.items() if key.startswith("feature.")}
            inputs, memory = features({"g": g, "w": w, "t": t}, memory, reduce_whole)
            new = {"t": t, **{f"feature.{key}": value for key, value in memory.items()}}
            columns = torch.stack([inputs[name].expand_as(g) for name in self.features])
            x = functional.elu(torch.addmm(self.input_bias, self.input_weight, columns))
            for layer, cell in enumerate(cells, start=1):
                x, new[f"cell{layer}"] = cell(x, state[f"hidden{layer}"], state[f"cell{layer}"])
                new[f"hidden{layer}"] = x
            output = torch.addmm(self.output_bias, self.output_weight, x)
            return self.scale * torch.tanh(output[0]), new

        return update

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "scale": self.scale}


SIZES = {
    "rp": RNNpropSize(("m_tilde", "g_tilde"), width=20, hidden=20, layers=2),
    "rp-s": RNNpropSize(("m_tilde", "g_tilde"), width=6, hidden=7, layers=1),
    "rp-si": RNNpropSize(("m_tilde", "g_tilde", "n_tilde"), width=6, hidden=7, layers=1),
}
