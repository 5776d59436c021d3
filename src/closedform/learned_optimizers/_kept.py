"""What somebody's optimizer keeps between steps, as flat tensors, and put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from closedform.errors import OptionError
from closedform.learned_optimizers._base import State

Makers: TypeAlias = dict[str, Callable[[State], Any]]
"""How each thing that is kept is made of a state again, by its place: ``p0.exp_avg``, ``group0.d``, ``own.k``."""


def taken(optimizer: torch.optim.Optimizer, leaves: list[nn.Parameter], name: str, makers: Makers) -> State:
    """All that an optimizer keeps: of each parameter, of all together, numbers and tensors of its groups and its own.

    Args:
        optimizer: Somebody's.
        leaves: Its parameters.
        name: What it is called.
        makers: Is told how to make each thing of a state again.

    Raises:
        OptionError: something that is kept of parameters is neither a tensor, a number, a text, nor a list, tuple,
            deque or dict of such.
    """
    found: State = {}
    for place, value in _places(optimizer, leaves):
        make = _keep(place, value, found)
        if make is None:
            kept = f"{place.partition('.')[2]!r}, a {type(value).__name__}"
            raise OptionError(f"{name} keeps {kept}, between steps: only tensors and numbers can be put back")
        makers[place] = make
    return found


def put_back(optimizer: torch.optim.Optimizer, leaves: list[nn.Parameter], state: State, makers: Makers) -> None:
    """Give a new optimizer what another one kept."""
    for place, make in makers.items():
        if place not in state:
            continue
        owner, _, name = place.partition(".")
        value = make(state)
        if owner == "own":
            setattr(optimizer, name, value)
        elif owner == "all":
            optimizer.state[name] = value  # type: ignore[index]
        elif owner.startswith("group"):
            optimizer.param_groups[int(owner[5:])][name] = value
        else:
            optimizer.state[leaves[int(owner[1:])]][name] = value


def _places(optimizer: torch.optim.Optimizer, leaves: list[nn.Parameter]) -> Iterator[tuple[str, Any]]:
    for k, leaf in enumerate(leaves):
        yield from ((f"p{k}.{key}", value) for key, value in optimizer.state.get(leaf, {}).items())
    yield from ((f"all.{key}", value) for key, value in optimizer.state.items() if isinstance(key, str))
    for k, group in enumerate(optimizer.param_groups):
        yield from ((f"group{k}.{key}", value) for key, value in group.items() if _plain(value))
    yield from ((f"own.{key}", value) for key, value in vars(optimizer).items() if _plain(value))


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)


def _keep(place: str, value: Any, found: State) -> Callable[[State], Any] | None:
    """Put a value into a state, flat, and tell how it is made again; None where that cannot be."""
    if isinstance(value, Tensor):
        found[place] = value.detach().clone()
        return lambda state: state[place].clone()
    if _plain(value):
        found[place] = torch.tensor(float(value), dtype=torch.float64)
        return lambda state: type(value)(state[place].item())
    if value is None or isinstance(value, (bool, str)):
        found[place] = torch.zeros((), dtype=torch.float64)
        return lambda state: value
    if not isinstance(value, (list, tuple, deque, dict)):
        return None
    return _keep_parts(place, value, found)


def _keep_parts(place: str, value: Any, found: State) -> Callable[[State], Any] | None:
    parts = value if isinstance(value, dict) else dict(enumerate(value))
    found[place] = torch.tensor(float(len(parts)), dtype=torch.float64)
    made = {key: _keep(f"{place}/{key}", part, found) for key, part in parts.items()}
    if any(make is None for make in made.values()):
        return None

    def make(state: State) -> Any:
        again = {key: part(state) for key, part in made.items() if part is not None and f"{place}/{key}" in state}
        if isinstance(value, dict):
            return again
        return deque(again.values(), value.maxlen) if isinstance(value, deque) else type(value)(again.values())

    return make
