"""Language models: predict each character of the Python standard library's source from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_count
from closedform.tasks._base import SPLITS, Batch, Params
from closedform.tasks._network import Network, NetworkTask
from closedform.tasks._text import PythonSource

T = TypeVar("T", bound="LanguageTask")
FULL = 1024
"""Windows in ``full``: a whole split would be some 20,000."""


@dataclass(frozen=True)
class LanguageOptions:
    """What can be chosen about any language model.

    Attributes:
        batch_size: Windows a minibatch.
        window: Characters that are predicted in a window.
        horizon: Steps an episode.
        width: Units of a layer.
    """

    batch_size: int = 32
    window: int = 64
    horizon: int = 500
    width: int = 64

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_count("window", self.window)
        check_count("horizon", self.horizon)
        check_count("width", self.width)


class LanguageTask(NetworkTask):
    """Predict characters; the loss is the mean cross-entropy of one, in nats (log 97 = 4.57 for a uniform guess).

    A batch is one tensor, [windows, window + 1]: characters, each predicted from all before it in its window. ``full``
    gives a fixed sample of a split, 1,024 windows evenly spaced over it.

    Args:
        name: The task's name.
        network: Takes [windows, window] characters, gives [windows, window, alphabet] logits.
        options: Network, batch and episode.
        source: Where the problem comes from.
    """

    def __init__(self, name: str, network: Network, options: LanguageOptions, source: str) -> None:
        self.text = PythonSource()
        self.name = name
        self.horizon = options.horizon
        self.source = f"{source}; {self.text.reference}"
        self.data = self.text.data
        self.options = options
        self.specs = network.specs
        self._network = network
        self._splits: dict[str, Tensor] = {}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        last = len(self._split(split)) - self.options.window
        size = (self.options.batch_size,)
        return self._windows(split, torch.randint(last, size, generator=generator, device=generator.device))

    def full(self, split: str) -> Batch:
        last = len(self._split(split)) - self.options.window
        return self._windows(split, torch.linspace(0, last - 1, FULL, dtype=torch.float64).long())

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return functional.cross_entropy(*self._predictions(params, batch[0]))

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        loss = right = 0.0
        for windows in batch[0].split(self.options.batch_size):
            logits, truth = self._predictions(params, windows)
            loss += float(functional.cross_entropy(logits, truth)) * len(windows)
            right += float((logits.argmax(dim=-1) == truth).to(torch.float64).mean()) * len(windows)
        return {"loss": loss / len(batch[0]), "accuracy": right / len(batch[0])}

    def available(self) -> str | None:
        return self.text.available()

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        moved = super().to(device, dtype)
        moved._splits = {}
        return moved

    def _predictions(self, params: Params, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, [characters, alphabet], and the characters that they should have predicted, [characters]."""
        return self._network(params, windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()

    def _split(self, split: str) -> Tensor:
        if split not in self._splits:
            lookup("split", split, SPLITS)
            self._splits[split] = self.text.texts[split].to(self.device)
        return self._splits[split]

    def _windows(self, split: str, starts: Tensor) -> Batch:
        places = starts.to(self.device)[:, None] + torch.arange(self.options.window + 1, device=self.device)
        return (self._split(split)[places].to(torch.int64),)
