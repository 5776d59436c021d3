"""A language model with long short-term memory (LSTM), step by step in elementary operations: ``vmap`` works."""

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


class LSTM:
    """Characters embedded, one recurrent layer whose states start at zero, and a linear layer.

    The cell is that of ``torch.nn.LSTM``, gates in its order: input, forget, cell, output.

    Args:
        options: Sizes.
    """

    def __init__(self, options: LanguageOptions) -> None:
        width = options.width
        self.input = Linear("input", width, 4 * width)
        self.hidden = Linear("hidden", width, 4 * width)
        self.head = Linear("head", width, ALPHABET, gain=0.1)  # starts near a uniform guess
        self.specs = {"character": Spec((ALPHABET, width), 1.0), **collect(self.input, self.hidden, self.head)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        gates = self.input(params, functional.embedding(inputs, params["character"]))  # [windows, window, 4 width]
        output = cell = torch.zeros_like(gates[:, 0, : gates.shape[-1] // 4])
        outputs = []
        for gate in gates.unbind(dim=1):
            output, cell = _step(gate + self.hidden(params, output), cell)
            outputs.append(output)
        return self.head(params, torch.stack(outputs, dim=1))


def _step(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The next output and cell, [windows, width], from the gates before their functions, [windows, 4 width]."""
    opened, kept, new, shown = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(kept) * cell + torch.sigmoid(opened) * torch.tanh(new)
    return torch.sigmoid(shown) * torch.tanh(cell), cell


def lstm_python(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """An LSTM of 96 units on the Python standard library's source. ``data_dir`` is not needed."""
    defaults = LanguageOptions(batch_size=16, window=32, width=96, horizon=1000)
    chosen = with_options(defaults, options, "lstm-python")
    return LanguageTask("lstm-python", LSTM(chosen), chosen, "Hochreiter & Schmidhuber 1997")
