"""What recurrent learned optimizers share: features in, a stack of LSTM layers, one output for every parameter.

    x = enter(features);  h = LSTM layers(x);  update = scale * leave(v . h + c)

A member of the family says what ``enter`` and ``leave`` are. All parameters of the optimizee go through the same
network, each with hidden states of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from closedform._names import lookup
from closedform._options import check_positive
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction, total_state
from closedform.learned_optimizers._inputs import CLOCK_ENTRIES, InputFunction, Inputs
from closedform.learned_optimizers._lstm import LSTMCell
from closedform.learned_optimizers._native_lstm import Forward, Shape

CLOCKS: dict[str, tuple[str, ...]] = {"own": (), "progress": ("progress",)}
"""Name -> features that a network reads beside its size's. With ``own`` a unit of each layer starts as a clock, which
runs for hundreds of steps whatever the horizon; with ``progress`` it is told which share of the episode is over."""


@dataclass(frozen=True)
class RecurrentSize:
    """What one member of a recurrent family is made of.

    Attributes:
        features: Names of the input features.
        hidden: Units of each LSTM layer.
        layers: LSTM layers.
    """

    features: tuple[str, ...]
    hidden: int
    layers: int


class RecurrentOptimizer(LearnedOptimizer):
    """A recurrent network; subclasses say how it begins and ends.

    The output layer starts at zero: an untrained network stands still, and the first meta-gradients turn it downhill. A
    random one that happens to climb drives optimizees to where nothing can be learned but to stand still again.

    Where no graph is asked for, native code does the work: see ``_native_lstm.py``.

    The state holds the step ``t``, the features' recurrences as ``feature.m``, ..., and ``hidden1``, ``cell1``, ...,
    [hidden, N] each.

    Args:
        name: Its name in the family.
        size: Features and layers.
        generator: Draws the initial weights.
        scale: What its output is multiplied by, in units of the optimizee's parameters.
        clock: How it can know how far the episode is: a name in ``CLOCKS``.

    Raises:
        OptionError: the scale is not a positive number.
        UnknownNameError: no such clock.
    """

    def __init__(
        self, name: str, size: RecurrentSize, generator: torch.Generator | None, scale: float, clock: str = "own"
    ) -> None:
        super().__init__()
        check_positive("scale", scale)
        self.name = name
        self.size = size
        self.scale = scale
        self.clock = clock
        self.features = size.features + lookup("clock", clock, CLOCKS)
        self._inputs = Inputs(self.features)
        self.needs_total_steps = self._inputs.needs_total_steps
        self.state_cost = self._inputs.buffers + 2 * size.hidden * size.layers
        widths = [self.add_input_layer(generator), *[size.hidden] * (size.layers - 1)]
        self.cells = nn.ModuleList(LSTMCell(width, size.hidden, generator, clock=clock == "own") for width in widths)
        self.output_weight = nn.Parameter(torch.zeros(1, size.hidden))
        self.output_bias = nn.Parameter(torch.zeros(1, 1))

    def add_input_layer(self, generator: torch.Generator | None) -> int:
        """Make what stands before the LSTM layers, by default nothing; returns its rows."""
        return len(self.features)

    def enter(self, columns: Tensor) -> Tensor:
        """What the first LSTM layer reads, [I, N], of the features, [F, N]."""
        return columns

    def leave(self, output: Tensor) -> Tensor:
        """The update per ``scale``, [N], of what the output layer gives, [N]."""
        return output

    def native_shape(self) -> Shape | None:
        """What a native forward pass for it is compiled for; None: there is none, and torch does all."""
        return None

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        state = self._inputs.init_state(w) | total_state(self, total_steps)
        for layer in range(1, self.size.layers + 1):
            state |= {f"{part}{layer}": w.new_zeros(self.size.hidden, w.numel()) for part in ("hidden", "cell")}
        return state

    def bind(self) -> UpdateFunction:
        return self._native_or(self._bound(), self._inputs.bind(), dict(self.named_parameters()))

    def bind_on(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> UpdateFunction:
        """``bind`` of a network that is shown changed features; in plain torch.

        Args:
            change: Features by name, [N] each or a scalar, to those that the network reads instead.
        """
        return self._bound(change)

    def _bound(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None) -> UpdateFunction:
        features = self._inputs.bind()
        cells = [cell.bind() for cell in self.cells]  # type: ignore[operator]

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            columns, new = features(g, w, state)
            columns = columns if change is None else change(columns)
            x = self.enter(torch.stack([columns[name].to(g.dtype).expand_as(g) for name in self.features]))
            for layer, cell in enumerate(cells, start=1):
                x, new[f"cell{layer}"] = cell(x, state[f"hidden{layer}"], state[f"cell{layer}"])
                new[f"hidden{layer}"] = x
            output = torch.addmm(self.output_bias, self.output_weight, x)
            return self.scale * self.leave(output[0]), new

        return update

    def bind_stacked(self, parameters: Mapping[str, Tensor]) -> UpdateFunction:
        count = len(next(iter(parameters.values())))
        frozen = {name: value.detach().expand(count, *value.shape) for name, value in self.named_parameters()}
        return self._native_or(super().bind_stacked(parameters), self._inputs.bind_stacked(), {**frozen, **parameters})

    def _native_or(
        self, plain: UpdateFunction, features: InputFunction, parameters: Mapping[str, Tensor]
    ) -> UpdateFunction:
        """The native forward pass where it fits, else ``plain``."""
        shape = self.native_shape()
        if shape is None:
            return plain
        forward = Forward(shape, parameters)

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            if not forward.fits(g, w, *(value for key, value in state.items() if key not in CLOCK_ENTRIES)):
                return plain(g, w, state)
            columns, new = features(g, w, state)
            result, after = forward(
                [columns[name].to(g.dtype).expand_as(g) for name in self.features], state, self.scale
            )
            return result, new | after

        return update

    def describe(self) -> dict[str, Any]:
        own = {} if self.clock == "own" else {"clock": self.clock}
        return {"name": self.name, "scale": self.scale, **own}
