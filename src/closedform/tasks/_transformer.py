"""A small Transformer language model: pre-normalised blocks of causal attention and a two-layer perceptron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from closedform._options import check_count
from closedform.errors import OptionError
from closedform.tasks._base import Params, Task, with_options
from closedform.tasks._language import LanguageOptions, LanguageTask
from closedform.tasks._network import Layer, LayerNorm, Linear, Spec, collect
from closedform.tasks._text import ALPHABET


@dataclass(frozen=True)
class TransformerOptions(LanguageOptions):
    """What can be chosen about a Transformer.

    Attributes:
        layers: Blocks.
        heads: Heads of attention, by which ``width`` is divisible.
    """

    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("layers", self.layers)
        check_heads(self.width, self.heads)


def check_heads(width: int, heads: int) -> None:
    """Raise OptionError unless ``heads`` is a number of heads that ``width`` can be dealt out to."""
    check_count("heads", heads)
    if width % heads:
        raise OptionError(f"width must be a multiple of heads, which is {heads}, not {width}")


class Sizes(Protocol):
    """What a block's size is made of."""

    @property
    def width(self) -> int:
        """Units of a layer."""

    @property
    def layers(self) -> int:
        """Blocks that are stacked."""

    @property
    def heads(self) -> int:
        """Heads of attention."""


class Block:
    """x + attention(norm(x)), then x + perceptron(norm(x)).

    Args:
        name: Prefix of its parameters' names.
        options: Sizes.
    """

    def __init__(self, name: str, options: Sizes) -> None:
        width, gain = options.width, 1 / math.sqrt(2 * options.layers)  # what blocks add up to keeps its size
        self.heads = options.heads
        self.norm1 = LayerNorm(f"{name}.norm1", width)
        self.qkv = Linear(f"{name}.qkv", width, 3 * width)
        self.out = Linear(f"{name}.out", width, width, gain)
        self.norm2 = LayerNorm(f"{name}.norm2", width)
        self.up = Linear(f"{name}.up", width, 4 * width)
        self.down = Linear(f"{name}.down", 4 * width, width, gain)
        self.specs = collect(self.norm1, self.qkv, self.out, self.norm2, self.up, self.down)

    def __call__(self, params: Params, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.out(params, self._attention(self.qkv(params, self.norm1(params, x)), mask))
        return x + self.down(params, functional.gelu(self.up(params, self.norm2(params, x))))

    def _attention(self, qkv: Tensor, mask: Tensor) -> Tensor:
        """[windows, window, 3 width] -> [windows, window, width]."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).movedim(-2, 1).unbind(dim=-2)  # [windows, heads, window, -1]
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + mask, dim=-1)
        return (weights @ v).movedim(1, -2).flatten(-2)


class Transformer:
    """Characters and their places embedded, blocks, a normalisation, and a linear layer.

    Args:
        options: Sizes.
    """

    def __init__(self, options: TransformerOptions) -> None:
        width = options.width
        self.blocks = [Block(f"block{i}", options) for i in range(1, options.layers + 1)]
        self.norm = LayerNorm("norm", width)
        self.head = Linear("head", width, ALPHABET, gain=0.1)  # starts near a uniform guess
        embeddings = {"character": Spec((ALPHABET, width), 0.5), "place": Spec((options.window, width), 0.1)}
        layers: list[Layer] = [*self.blocks, self.norm, self.head]
        self.specs = {**embeddings, **collect(*layers)}

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        length = inputs.shape[-1]
        x = functional.embedding(inputs, params["character"]) + params["place"][:length]
        mask = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        for block in self.blocks:
            x = block(params, x, mask)
        return self.head(params, self.norm(params, x))


_SOURCE = "Vaswani et al. 2017, pre-normalised as Radford et al. 2019"


def transformer_python(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A Transformer of two layers of 64 units on the Python standard library's source. ``data_dir`` is not needed."""
    chosen = with_options(TransformerOptions(), options, "transformer-python")
    return LanguageTask("transformer-python", Transformer(chosen), chosen, _SOURCE)


def transformer_wide_python(*, data_dir: str | Path | None = None, **options: Any) -> Task:
    """A Transformer of two layers of 96 units on the Python standard library's source. ``data_dir`` is not needed."""
    defaults = TransformerOptions(width=96, batch_size=8, window=32, horizon=1200)
    chosen = with_options(defaults, options, "transformer-wide-python")
    return LanguageTask("transformer-wide-python", Transformer(chosen), chosen, _SOURCE)
