"""A language model with a gated recurrent unit (GRU), step by step in elementary operations, so that ``vmap`` works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from closedform.tasks._base import Params, Task, with_options
from closedform.tasks._language import LanguageOptions, LanguageTask
from closedform.tasks._network import Linear, Spec, collect
from closedform.tasks._text import ALPHABET


class GRU:
    """Characters embedded, one recurrent layer whose state starts at zero, and a linear layer.

    The cell is that of ``torch.nn.GRU``, gates in its order: reset, update, new.

    Args:
        options: Sizes.
    """

    def __init__(self, options: LanguageOptions) -> None:
        width = options.width
        self.input = Linear("input", width, 3 * width)
        self.hidden = Linear("hidden", width, 3 * width)
        self.head = Linear("head", width, ALPHABET, gain=0.1)  # starts near a uniform guess
        self.specs = {"character": Spec((ALPHABET, width), 1.0), **collect(self.input, self.hidden, self.head)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        gates = self.input(params, functional.embedding(inputs, params["character"]))  # [windows, window, 3 width]
        state = torch.zeros_like(gates[:, 0, : gates.shape[-1] // 3])
        states = []
        for gate in gates.unbind(dim=1):
            state = self._step(params, gate, state)
            states.append(state)
        return self.head(params, torch.stack(states, dim=1))

    def _step(self, params: Params, gate: Tensor, state: Tensor) -> Tensor:
        """The next state, [windows, width], from the input's part of the gates, [windows, 3 width], and the state."""
        reset_in, update_in, new_in = gate.chunk(3, dim=-1)
        reset_state, update_state, new_state = self.hidden(params, state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_in + reset_state)
        update = torch.sigmoid(update_in + update_state)
        new = torch.tanh(new_in + reset * new_state)
        return new + update * (state - new)


def gru_python(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A GRU of 64 units on the Python standard library's source. ``data_dir`` is not needed."""
    chosen = with_options(LanguageOptions(), options, "gru-python")
    return LanguageTask("gru-python", GRU(chosen), chosen, "Cho et al. 2014")
