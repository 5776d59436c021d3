"""The per-parameter MLP "small_fc_lopt": a small network on averages of the gradient, with no hidden state of its own.

    d, a = MLP(39 inputs);  update = scale * d * exp(0.001 * a)

Of the inputs, 21 are features of the rule language: w, g, three momenta, a second moment, its inverse root, the momenta
times that, and eleven encodings of time. The other 18 are Adafactor's, three decays of each: means of g^2 over rows and
over columns, their inverse roots, and g and the momenta divided by the root of what rows and columns say together; for
a vector both means are its own second moment (``_adafactor.py``). All but time are divided by their root mean square
over the parameter tensor, so that above small floors the size of gradients and parameters does not matter.

Source: Metz et al. 2022, Practical tradeoffs between memory, compute, and performance in learned optimizers, and its
released code. The decays, which the paper meta-trains as well, stay at their initial values here: so the
features are those of the rule language, and a recording's columns are what the network read.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from closedform._options import check_count, check_positive
from closedform.learned_optimizers._adafactor import INPUTS, Adafactor
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction, lengths
from closedform.learned_optimizers._inputs import Inputs

MOMENTA = {"mom9": 0.9, "mom99": 0.99, "mom999": 0.999}
"""Features whose decays the factored second moments share, with these decays."""
NORMALISED = ("w", "g", *MOMENTA, "v999", "rsqrt_v999", *(f"{name}_v999" for name in MOMENTA))
TIME = tuple(f"time{scale}" for scale in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000))
MAGNITUDE = 0.001
SCALE = 0.01
"""Default of what the output is multiplied by. The paper's 0.001 suits its episodes of thousands of steps; in those of
200 on mlp-digits, 60 meta-steps with it change nothing (loss 2.30), where 100 with 0.01 lead to 0.26."""
WIDEST = 1024
FLOOR = 1e-5
"""Added to the mean square that an input is normalised by."""


class MLP(LearnedOptimizer):
    """The per-parameter MLP: two hidden ReLU layers.

    The output layer starts at zero, so that an untrained one stands still.

    The state holds the step ``t``, the features' recurrences as ``feature.mom9``, ..., and for the i-th parameter
    tensor ``row{i}`` and ``column{i}``, or ``second{i}`` if it is a vector: see `Adafactor`. ``state_cost`` is that of
    vectors; matrices keep next to nothing for the last three.

    Args:
        name: Its name in the family.
        generator: Draws the initial weights.
        width: Units of each hidden layer; the paper's has 4.
        scale: What the output is multiplied by, in units of the optimizee's parameters; the paper's is 0.001, which
            suits longer episodes.

    Raises:
        OptionError: the width is not a whole number from 1 to 1024, or the scale not a positive number.
    """

    source = "Metz et al. 2022, small_fc_lopt"
    coordinatewise = False

    def __init__(
        self, name: str, generator: torch.Generator | None = None, width: int = 4, scale: float = SCALE
    ) -> None:
        super().__init__()
        check_positive("scale", scale)
        check_count("width", width, 1, WIDEST)
        self.name = name
        self.width = width
        self.scale = scale
        self.features = (*NORMALISED, *TIME)
        self._inputs = Inputs(self.features)
        self._adafactor = Adafactor(tuple(MOMENTA.values()))
        self.state_cost = self._inputs.buffers + len(MOMENTA)
        read = len(NORMALISED) + INPUTS * len(MOMENTA)
        self.input_weight = _truncated_normal(width, read + len(TIME), generator)
        self.input_bias = nn.Parameter(torch.zeros(width, 1))
        self.hidden_weight = _truncated_normal(width, width, generator)
        self.hidden_bias = nn.Parameter(torch.zeros(width, 1))
        self.output_weight = nn.Parameter(torch.zeros(2, width))
        self.output_bias = nn.Parameter(torch.zeros(2, 1))

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        return self._inputs.init_state(w) | self._adafactor.init_state(w, lengths(w, None) if sizes is None else sizes)

    def bind(self) -> UpdateFunction:
        features = self._inputs.bind()
        split = len(NORMALISED) + INPUTS * len(MOMENTA)
        weight, time_weight = self.input_weight[:, :split], self.input_weight[:, split:]

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            inputs, new = features(g, w, state)
            momenta = torch.stack([inputs[name] for name in MOMENTA])
            factored, sizes, after = self._adafactor.step(g, momenta, state)
            columns = torch.cat([torch.stack([inputs[name] for name in NORMALISED]), factored])
            time = torch.stack([inputs[name] for name in TIME]).to(g.dtype)[:, None]
            x = torch.addmm(self.input_bias + time_weight @ time, weight, normalised(columns, sizes))
            x = torch.addmm(self.hidden_bias, self.hidden_weight, x.relu())
            direction, magnitude = torch.addmm(self.output_bias, self.output_weight, x.relu())
            return self.scale * direction * torch.exp(MAGNITUDE * magnitude), new | after

        return update

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "width": self.width, "scale": self.scale}


def normalised(columns: Tensor, sizes: list[int]) -> Tensor:
    """Each row of each parameter tensor divided by its root mean square there.

    Args:
        columns: Inputs of all parameters, [F, N].
        sizes: Lengths of the parameter tensors.
    """
    parts = columns.split(sizes, dim=1)
    return torch.cat([part * torch.rsqrt(part.square().mean(1, keepdim=True) + FLOOR) for part in parts], dim=1)


def _truncated_normal(rows: int, columns: int, generator: torch.Generator | None) -> nn.Parameter:
    """Weights from a normal of deviation 1/sqrt(columns), cut at two deviations."""
    deviation = 1 / math.sqrt(columns)
    weight = torch.empty(rows, columns)
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
    return nn.Parameter(weight)
