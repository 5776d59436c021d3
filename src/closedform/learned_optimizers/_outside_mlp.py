"""Somebody else's per-parameter MLP: a file of weights, run over our input features.

    direction, magnitude = MLP(features);  update = scale * direction * exp(sharpness * magnitude)

Of an MLP with one output the update is ``scale`` times it. The form is that of small_fc_lopt (Metz et al. 2022) and its
kin; weights come from safetensors or npz, which are parsed, never unpickled.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from closedform._options import check_positive
from closedform._tensors import read_tensors
from closedform.errors import CheckpointError, OptionError
from closedform.learned_optimizers._base import (
    LearnedOptimizer,
    Sizes,
    State,
    UpdateFunction,
    lengths,
    total_state,
)
from closedform.learned_optimizers._inputs import Inputs
from closedform.learned_optimizers._mlp import MAGNITUDE, normalised

_MOST_BYTES, _MOST_LAYERS, _WIDEST = 2**26, 8, 4096


class OutsideMLP(LearnedOptimizer):
    """An MLP with ReLU layers over named features; see `load_outside_mlp`."""

    source = "somebody's weights"

    def __init__(
        self, name: str, features: Sequence[str], layers: Sequence[tuple[Tensor, Tensor]], scale: float, normalise: bool
    ) -> None:
        super().__init__()
        self.name, self.features, self.scale, self.normalise = name, tuple(features), scale, normalise
        self._inputs = Inputs(self.features)
        self.needs_total_steps = self._inputs.needs_total_steps
        self.coordinatewise = not normalise
        self.state_cost = self._inputs.buffers
        self.weights = nn.ParameterList(nn.Parameter(weight) for weight, _ in layers)
        self.biases = nn.ParameterList(nn.Parameter(bias[:, None]) for _, bias in layers)

    def init_state(self, w: Tensor, sizes: Sizes | None = None, total_steps: int | None = None) -> State:
        state = self._inputs.init_state(w) | total_state(self, total_steps)
        for k, size in enumerate(lengths(w, sizes)):
            state[f"length{k}"] = torch.tensor(float(size), dtype=torch.float64)
        return state

    def bind(self) -> UpdateFunction:
        features = self._inputs.bind()

        def update(g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
            inputs, new = features(g, w, state)
            own = {key: value for key, value in state.items() if key.startswith("length")}
            x = torch.stack([inputs[name].to(g.dtype).expand_as(g) for name in self.features])
            if self.normalise:
                x = normalised(x, [int(size) for size in own.values()])
            for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
                x = torch.addmm(bias, weight, x).relu()
            out = torch.addmm(self.biases[-1], self.weights[-1], x)
            size = torch.exp(MAGNITUDE * out[1]) if len(out) == 2 else 1.0
            return self.scale * out[0] * size, new | own

        return update

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "features": list(self.features), "scale": self.scale, "normalise": self.normalise}


def load_outside_mlp(
    path: str | Path, features: Sequence[str], *, scale: float = 0.001, normalise: bool = True, name: str | None = None
) -> OutsideMLP:
    """Run somebody's per-parameter MLP: recorded, distilled, compared and evaluated as our own.

        mlp = cf.learned_optimizers.load_outside_mlp("weights.npz", ["g", "mom9", "rsqrt_v999"])

    Args:
        path: ``.safetensors`` or ``.npz``: a matrix and a vector for each layer, in the order of their names (numbers
            counting as numbers). Matrices may be [out, in], as in torch, or [in, out], as in JAX.
        features: Names in ``FEATURES``, in the order of the first layer's inputs.
        scale: What the output is multiplied by, in units of the optimizee's parameters.
        normalise: Divide every input by its root mean square over the parameter tensor, as small_fc_lopt does.
        name: What it is called; by default the file's stem.

    Raises:
        CheckpointError: the file is missing, damaged, too large, or no such MLP.
        OptionError: the scale is not a positive number, or no features are named.
        UnknownNameError: a feature is unknown.
    """
    check_positive("scale", scale)
    if isinstance(features, str) or not features:
        raise OptionError("features must be the names of the first layer's inputs, in order")
    path = Path(path)
    layers = _layers(path, _arrays(path), len(features))
    return OutsideMLP(name or path.stem, features, layers, scale, normalise)


def _arrays(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path, "MLP")[0]
    if path.suffix != ".npz":
        raise CheckpointError(f"{path} must be a .safetensors or .npz file of weights")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path} is larger than {_MOST_BYTES} bytes: no per-parameter MLP is")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise CheckpointError(f"{path} unpacks to more than {_MOST_BYTES} bytes: no per-parameter MLP does")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.array(arrays[key], np.float32)) for key in arrays.files}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _layers(path: Path, arrays: Mapping[str, Tensor], count: int) -> list[tuple[Tensor, Tensor]]:
    ordered = [arrays[key].to(torch.float32) for key in sorted(arrays, key=_natural)]
    matrices, vectors = ([a for a in ordered if a.dim() == n] for n in (2, 1))
    if not matrices or len(matrices) != len(vectors) or len(matrices) + len(vectors) != len(ordered):
        raise CheckpointError(f"{path} must hold a matrix and a vector for each layer, and nothing else")
    if len(matrices) > _MOST_LAYERS or max(max(matrix.shape) for matrix in matrices) > _WIDEST:
        raise CheckpointError(f"{path} holds more than {_MOST_LAYERS} layers, or wider ones than {_WIDEST}")
    if not all(bool(torch.isfinite(array).all()) for array in ordered):
        raise CheckpointError(f"{path} holds numbers that are not finite; it is of no use")
    for turned in (False, True):
        weights = [matrix.T.contiguous() if turned else matrix for matrix in matrices]
        widths = [count, *(len(weight) for weight in weights)]
        fits = all(weight.shape[1] == before for weight, before in zip(weights, widths[:-1], strict=True))
        if fits and widths[1:] == [len(vector) for vector in vectors] and widths[-1] in (1, 2):
            return list(zip(weights, vectors, strict=True))
    shapes = ", ".join(str(list(matrix.shape)) for matrix in matrices)
    raise CheckpointError(f"{path} has layers {shapes}, which do not lead from {count} features to 1 or 2 outputs")


def _natural(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]
