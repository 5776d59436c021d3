"""A task of your own torch module: a function that makes it, its data as tensors, and a loss.

    data = {split: (inputs, labels) for split in tasks.SPLITS}
    task = ModuleTask("mine", lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)), data)

Optimizees run side by side under ``torch.func.vmap``, which wants a pure function. So normalisation uses the
minibatch's own statistics and keeps no running averages, and dropout draws for each optimizee separately.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from closedform._names import lookup
from closedform._options import check_count
from closedform.errors import OptionError
from closedform.tasks._base import SPLITS, Batch, Params, Task

T = TypeVar("T", bound="ModuleTask")
Loss = Callable[[Tensor, Tensor], Tensor]


class ModuleTask(Task):
    """Train a torch module on tensors.

    Dropout draws from torch's own generator: ``torch.manual_seed`` makes a run repeatable. ``metrics`` leaves it out.

    Args:
        name: The task's name.
        make: Makes the module. Called under a seed for every starting point, so that the module's own initialisation is
            an episode's.
        data: For each name in ``SPLITS`` the inputs [N, ...] and the targets [N, ...].
        loss: Of the module's output on a minibatch and its targets; by default the mean cross-entropy.
        batch_size: Rows a minibatch.
        horizon: Steps an episode.
        source: Where the problem comes from.

    Raises:
        OptionError: a split is missing or empty, an option makes no sense, or the module does not work under
            ``torch.func.vmap``; the message says what torch says about it.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], nn.Module],
        data: Mapping[str, tuple[Tensor, Tensor]],
        *,
        loss: Loss = functional.cross_entropy,
        batch_size: int = 32,
        horizon: int = 100,
        source: str = "a torch module",
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("horizon", horizon)
        for split in SPLITS:
            inputs, targets = data.get(split, ((), ()))
            if not len(inputs) or len(inputs) != len(targets):
                raise OptionError(f"task {name!r}: data must hold as many inputs as targets, one or more, of {split!r}")
        self.name, self.horizon, self.source, self.data = name, horizon, source, "tensors"
        self.batch_size = batch_size
        self._make, self._loss, self._given = make, loss, {split: data[split] for split in SPLITS}
        self._place(_pure(self._made(0)))
        self._try_side_by_side()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self._training.named_parameters()}

    def init(self, generator: torch.Generator) -> Params:
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        made = self._made(seed).named_parameters()
        return {name: value.detach().to(self.device, self.dtype) for name, value in made}

    def batch(self, split: str, generator: torch.Generator) -> Batch:
        inputs, targets = self.full(split)
        size = (self.batch_size,)
        rows = torch.randint(len(inputs), size, generator=generator, device=generator.device).to(self.device)
        return inputs.index_select(0, rows), targets.index_select(0, rows)

    def full(self, split: str) -> Batch:
        """A split's inputs and targets."""
        lookup("split", split, SPLITS)
        return self._placed[split]

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return self._loss(functional_call(self._training, params, (batch[0],)), batch[1])

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        return {"loss": float(self._loss(functional_call(self._measuring, params, (batch[0],)), batch[1]))}

    def to(self: T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> T:
        moved = super().to(device, dtype)
        moved._place(self._training)
        return moved

    def _made(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._make()

    def _place(self, module: nn.Module) -> None:
        """Put the module's buffers and the data where the task lives."""
        self._training = copy.deepcopy(module).to(self.device, self.dtype).train()
        self._measuring = copy.deepcopy(self._training).eval()
        self._placed = {split: tuple(map(self._moved, tensors)) for split, tensors in self._given.items()}

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def _try_side_by_side(self) -> None:
        generator = torch.Generator().manual_seed(0)
        starts = [self.init(generator) for _ in range(2)]
        batches = [tuple(part[:2] for part in self.batch("train", generator)) for _ in range(2)]
        params = {name: torch.stack([start[name] for start in starts]) for name in self.shapes}
        batch = tuple(map(torch.stack, zip(*batches, strict=True)))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size")
            try:
                losses = vmap(self.loss, in_dims=(0, 0), randomness="different")(params, batch)
            except UserWarning as warning:
                raise OptionError(
                    f"task {self.name!r}: outputs and targets differ in shape, and would be spread over each other: "
                    f"{str(warning).partition('. ')[0]}; reshape the targets"
                ) from None
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                said = (str(error).splitlines() or [type(error).__name__])[0]
                raise OptionError(
                    f"task {self.name!r}: its module fails under torch.func.vmap; write the part that is named here in "
                    f"elementary operations: {said}"
                ) from error
        shape = tuple(losses.shape[1:])
        if shape:
            raise OptionError(f"task {self.name!r}: its loss must be one number, not of shape {shape}")


def _pure(module: nn.Module) -> nn.Module:
    """The module with normalisation by the minibatch's own statistics alone."""
    for layer in module.modules():
        if isinstance(layer, _NormBase):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return module
