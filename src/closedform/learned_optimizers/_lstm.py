"""LSTM cells over the parameters of an optimizee, written in torch's own operations.

Layout is feature-major: hidden states are [H, N], one row a hidden unit, one column a parameter of the optimizee. N is
in the thousands and H below twenty, so rows are long and contiguous; with [N, H], as torch.nn.LSTM has it, a gate's
slice is made of runs of H numbers, and everything elementwise takes several times as long. Being made of plain
operations the cells also work under ``torch.func.vmap``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

MEMORY = 600
"""Steps over which the slowest unit of an untrained cell remembers; the others are spread geometrically from 1 step up.
To lower its steps as an episode goes on, an optimizer needs a clock that runs as long as the episode; with all biases
near 0 every unit forgets half of what it holds at each step, and no gradient leads from there to a slow one."""
OPEN = 2.0
"""Initial bias of the clock's candidate and output gate: nearly open."""

Cell: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [I, N], hidden [H, N], cell [H, N]) -> (new hidden, new cell)."""


def uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> nn.Parameter:
    """A meta-parameter drawn from U(-bound, bound)."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


class LSTMCell(nn.Module):
    """One LSTM layer; torch's gates in torch's order (input, forget, cell, output), with one bias instead of two.

    Unit i starts with the biases log(T_i) of its forget gate and -log(T_i) of its input gate: it remembers for about
    T_i steps, spaced geometrically from 1 to ``MEMORY`` (chrono initialisation: Tallec & Ollivier 2018, Can recurrent
    neural networks warp time?, section 2, where the times are drawn at random). The last unit starts as a clock: it
    reads nothing, and climbs as 1 - exp(-t/``MEMORY``), so that other units can learn to depend on the step. Annealing
    an episode needs that, and out of noisy inputs a network hardly ever makes a clock by itself.

    Args:
        inputs: Rows of its input, I.
        hidden: Hidden units, H.
        generator: Draws the weights and the other biases, uniform in +-1/sqrt(H).
        clock: Whether the last unit starts as a clock.
    """

    gate_scale: Tensor

    def __init__(self, inputs: int, hidden: int, generator: torch.Generator | None = None, clock: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.hidden = hidden
        self.weight = uniform((4 * hidden, inputs + hidden), bound, generator)
        self.bias = uniform((4 * hidden, 1), bound, generator)
        with torch.no_grad():
            self.bias[hidden : 2 * hidden, 0] = torch.linspace(0, math.log(MEMORY), hidden)
            self.bias[:hidden] = -self.bias[hidden : 2 * hidden]
            for gate in range(3 if clock else 0):  # the clock's input, forget and candidate read nothing
                self.weight[gate * hidden + hidden - 1] = 0
            if clock:
                self.bias[[3 * hidden - 1, 4 * hidden - 1]] = OPEN
        scale = torch.ones(4, hidden, 1)
        scale[2] = 2.0
        self.register_buffer("gate_scale", scale.reshape(-1, 1), persistent=False)

    def bind(self) -> Cell:
        """The cell for the weights as they are now.

        The candidate's tanh(z) is taken as 2 sigmoid(2z) - 1, so that one sigmoid serves all four gates; torch's
        vectorised sigmoid takes a fifth of the time of its tanh.
        """
        weight, bias = self.weight * self.gate_scale, self.bias * self.gate_scale

        def cell(x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            gates = torch.sigmoid(torch.addmm(bias, weight, torch.cat((x, hidden))))
            write, keep, candidate, read = gates.chunk(4)
            memory = torch.addcmul(keep * memory, write, 2 * candidate - 1)
            return read * tanh(memory), memory

        return cell


def tanh(x: Tensor) -> Tensor:
    """The tanh as 2 sigmoid(2x) - 1: exact to one rounding of 1 (absolute, not relative), and several times faster."""
    return 2 * torch.sigmoid(2 * x) - 1
