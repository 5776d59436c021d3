"""Save and load learned optimizers.

A network is a safetensors file whose header says which member of the family it is; a symbolic optimizer is a rule file.
Neither holds code: reading a file that a stranger sent is safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from closedform._document import Malformed, Name, Within, parse_json, read, shown
from closedform._files import finite
from closedform._tensors import read_tensors, write_tensors
from closedform.errors import CheckpointError, OptionError
from closedform.learned_optimizers._base import LearnedOptimizer
from closedform.learned_optimizers._symbolic import SymbolicOptimizer
from closedform.rules import load_rule, save_rule

FORMAT = "closedform.learned_optimizer/1"
_OPTIONS: dict[str, Any] = {"width": Annotated[int, Within(1, 1024)], "scale": Annotated[float, Within(0, 1e6)]}
"""Options of members of the family that a file may give, with their types."""


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
        header["recipe"] = json.dumps(finite(dict(recipe)))
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
        found: dict[str, Any] = read(parse_json(header.get("recipe", "{}")), Mapping[str, Any])
        return found
    except Malformed as error:
        raise CheckpointError(f"{path}: its recipe is not a JSON object: {error}") from None


def load_symbolic(path: Path) -> SymbolicOptimizer:
    """Read a rule file as a learned optimizer."""
    return SymbolicOptimizer(load_rule(path))


def load_weights(l2o: LearnedOptimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill a learned optimizer's meta-parameters in.

    Raises:
        CheckpointError: as `check_weights`.
    """
    check_weights(l2o, tensors, path)
    l2o.load_state_dict(dict(tensors))


def check_weights(l2o: LearnedOptimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors can be a learned optimizer's meta-parameters.

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


def _read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, header = read_tensors(path, "learned optimizer")
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {shown(header.get('format'))}, not {FORMAT!r}: not a learned optimizer"
        )
    return tensors, header


def _rebuild(path: Path, description: str, family: Mapping[str, Callable[..., LearnedOptimizer]]) -> LearnedOptimizer:
    try:
        options: dict[str, Any] = dict(read(parse_json(description), Mapping[str, Any], "description"))
        name: str = read(options.pop("name", None), Name, "name")
        if name not in family:
            raise CheckpointError(f"{path} holds a learned optimizer {shown(name)}; known: {', '.join(sorted(family))}")
        if unknown := options.keys() - _OPTIONS.keys():
            raise Malformed(f"unknown option {shown(min(unknown))}")
        return family[name](**{key: read(value, _OPTIONS[key], key) for key, value in options.items()})
    except (Malformed, TypeError, OptionError) as error:  # TypeError: an option of another member
        raise CheckpointError(f"{path} does not say what it holds: {error}") from None


def _kind(value: Tensor) -> str:
    return f"{value.dtype} {list(value.shape)}"
