"""A learned optimizer from a torch module of your own, which maps features of a parameter to its update."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from closedform._options import check_positive
from closedform._tensors import read_tensors
from closedform.errors import OptionError
from closedform.learned_optimizers._base import LearnedOptimizer, Sizes, State, UpdateFunction, total_state
from closedform.learned_optimizers._inputs import Inputs
from closedform.learned_optimizers._storage import load_weights

_ROWS = 64
"""Rows that a module is tried on."""


class ModuleOptimizer(LearnedOptimizer):
    """A module over named features; see `from_module`."""

    source = "a module of one's own"

    def __init__(self, module: nn.Module, features: Sequence[str], scale: float, name: str) -> None:
        super().__init__()
        self.name, self.features, self.scale = name, tuple(features), scale
        self._inputs = Inputs(self.features)
        self.needs_total_steps = self._inputs.needs_total_steps
        self.state_cost = self._inputs.buffers
        self.module = copy.deepcopy(module)

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        return self._inputs.init_state(w) | total_state(self, total_steps)

    def bind(self) -> UpdateFunction:
        features = self._inputs.bind()

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            inputs, new = features(g, w, state)
            x = torch.stack([inputs[name].to(g.dtype).expand_as(g) for name in self.features], dim=-1)
            return self.scale * self.module(x).squeeze(-1), new

        return update

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "features": list(self.features), "scale": self.scale}


def from_module(
    module: nn.Module,
    features: Sequence[str],
    *,
    scale: float = 0.01,
    name: str = "module",
    weights: str | Path | None = None,
) -> ModuleOptimizer:
    """A learned optimizer that applies a module to every parameter alike.

        network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = learned_optimizers.from_module(network, ["m_tilde", "g_tilde"])

    It is meta-trained, recorded, distilled and compared as ours are.

    Args:
        module: Maps features, [..., F], to the update, [..., 1]; its parameters are the meta-parameters. It is copied.
        features: Names in ``FEATURES``, in the order of the module's inputs.
        scale: What the output is multiplied by, in units of the optimizee's parameters.
        name: What it is called.
        weights: A file of its meta-parameters, such as ``model.safetensors`` of a training; the module's own if None.

    Raises:
        OptionError: the module gives something else, or what it gives for a row depends on other rows.
        UnknownNameError: a feature is unknown.
        CheckpointError: the file is missing, damaged, or of another module.
    """
    check_positive("scale", scale)
    if isinstance(features, str) or not features:
        raise OptionError("features must be the names of the module's inputs, in order")
    found = ModuleOptimizer(module, features, scale, name)
    _check(found.module, len(found.features))
    if weights is not None:
        tensors, _ = read_tensors(Path(weights), "learned optimizer")
        load_weights(found, tensors, Path(weights))
    return found


@torch.no_grad()
def _check(module: nn.Module, count: int) -> None:
    x = torch.randn(_ROWS, count, generator=torch.Generator().manual_seed(0))
    try:
        whole, part = module(x), module(x[: _ROWS // 2])
    except (RuntimeError, TypeError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(
            f"the module must map [N, {count}], a row of features a parameter, to [N, 1]: {said}"
        ) from error
    if not isinstance(whole, Tensor) or whole.shape != (_ROWS, 1):
        given = list(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        raise OptionError(
            f"the module must give one number for each row, [N, 1]; of [{_ROWS}, {count}] it made {given}"
        )
    if not torch.allclose(whole[: _ROWS // 2], part, rtol=1e-4, atol=1e-6):
        raise OptionError(
            "what the module gives for a row depends on other rows, or on chance: leave out BatchNorm, Dropout"
        )
