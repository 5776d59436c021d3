"""Save and load learned optimizers.

A network is a safetensors file whose header says which member of the family it is; a symbolic optimizer is a rule file.
Neither holds code: reading a file that a stranger sent is safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from closedform._files import write_atomically
from closedform.errors import CheckpointError
from closedform.learned_optimizers._base import LearnedOptimizer
from closedform.learned_optimizers._symbolic import SymbolicOptimizer
from closedform.rules import load_rule, save_rule

FORMAT = "closedform.learned_optimizer/1"


def save_learned_optimizer(l2o: LearnedOptimizer, path: str | Path, recipe: Mapping[str, Any] | None = None) -> Path:
    """Write a learned optimizer, atomically: a symbolic one as its rule (JSON), a network as safetensors.

    Args:
        l2o: The optimizer.
        path: The file.
        recipe: Of a network, how it was meta-trained and what it was measured to do: a JSON object, kept in the file.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if isinstance(l2o, SymbolicOptimizer):
        return save_rule(l2o.rule(), path)
    header = {"format": FORMAT, "description": json.dumps(l2o.describe())}
    if recipe is not None:
        header["recipe"] = json.dumps(dict(recipe))
    write_tensors(path, l2o.state_dict(), header)
    return path


def load_network(path: Path, family: Mapping[str, Callable[..., LearnedOptimizer]]) -> LearnedOptimizer:
    """Read a network of a family; see ``load_learned_optimizer``."""
    tensors, header = _read_network(path)
    l2o = _rebuild(path, header.get("description", ""), family)
    load_weights(l2o, tensors, path)
    return l2o


def load_recipe(path: Path) -> dict[str, Any]:
    """How the network in a file was meta-trained; empty if the file does not say.

    Raises:
        CheckpointError: the file is missing, damaged or no network, or its recipe is no JSON object.
    """
    _, header = _read_network(path)
    try:
        return dict(json.loads(header.get("recipe", "{}")))
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: its recipe is not a JSON object") from None


def load_symbolic(path: Path) -> SymbolicOptimizer:
    """Read a rule file as a learned optimizer."""
    return SymbolicOptimizer(load_rule(path))


def load_weights(l2o: LearnedOptimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill a learned optimizer's meta-parameters in.

    Raises:
        CheckpointError: names, shapes or types differ, or a number is not finite; ``path`` is named.
    """
    own = l2o.state_dict()
    if own.keys() != tensors.keys():
        raise CheckpointError(f"{path} does not hold the weights of {l2o.name!r}; it is of another model or version")
    for key, value in tensors.items():
        if value.shape != own[key].shape or value.dtype != own[key].dtype:
            raise CheckpointError(f"{path}: {key} is {_kind(value)}, but {l2o.name!r} has {_kind(own[key])}")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: {key} holds numbers that are not finite; the file is of no use")
    l2o.load_state_dict(dict(tensors))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises:
        OutputError: it cannot be written.
    """
    own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    data = save(own, dict(header))
    write_atomically(path, lambda temporary: _write(temporary, data))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors and its header's texts.

    Raises:
        CheckpointError: missing, truncated or not safetensors; names ``what`` it should be.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise CheckpointError(f"cannot read {what} {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{what} {path} is damaged or no safetensors file: {error}") from None


def _read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, header = read_tensors(path, "learned optimizer")
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {header.get('format')!r}, not {FORMAT!r}: not a learned optimizer")
    return tensors, header


def _rebuild(path: Path, description: str, family: Mapping[str, Callable[..., LearnedOptimizer]]) -> LearnedOptimizer:
    try:
        options = json.loads(description)
        name = options.pop("name")
        if name not in family:
            raise CheckpointError(f"{path} holds a learned optimizer {name!r}; known: {', '.join(sorted(family))}")
        return family[name](**options)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say what it holds: {error!r}"[:300]) from error


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _kind(value: Tensor) -> str:
    return f"{value.dtype} {list(value.shape)}"
