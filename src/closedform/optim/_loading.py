"""Resuming: a saved state is that of this rule and of these parameters, and is kept as it was saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from closedform.errors import CheckpointError, RuleError
from closedform.lang import Kind, memory_kinds, memory_shape
from closedform.optim._groups import parameter_name, program_of, rule_of
from closedform.optim._shards import is_distributed


def check_saved(groups: Sequence[Mapping[str, Any]], state_dict: Mapping[str, Any]) -> None:
    """Refuse a state_dict that these groups cannot go on from, before anything is changed.

    Raises:
        RuleError: the states belong to a rule that keeps other states; names both.
        CheckpointError: a parameter's states are missing or of another shape; names it.
    """
    for saved, group in zip(state_dict["param_groups"], groups, strict=False):
        _check_same_states(saved.get("rule"), group["rule"])
        kinds = memory_kinds(program_of(group["rule"]))
        for position, param, state in _states(saved, group, state_dict["state"]):
            name = parameter_name(group, position)
            for key in ("step", *kinds):
                if key not in state:
                    raise CheckpointError(f'{name}: this state_dict has no state "{key}"; it is damaged')
            for key, kind in kinds.items():
                _check_state(name, key, state[key], _blank(kind, param))


def restore(
    groups: Sequence[Mapping[str, Any]], saved: Mapping[str, Any], state: Mapping[Tensor, dict[str, Any]]
) -> None:
    """Copy saved states of parameters into ``state``: torch would cast them to the parameters' type."""
    for saved_group, group in zip(saved["param_groups"], groups, strict=True):
        kinds = memory_kinds(program_of(group["rule"]))
        for _, param, found in _states(saved_group, group, saved["state"]):
            own = state[param]
            own["step"] = _step(found["step"], param, group["capturable"])
            for key, kind in kinds.items():
                own[key] = _placed(found[key], kind, param, group["capturable"])


def _states(
    saved: Mapping[str, Any], group: Mapping[str, Any], states: Mapping[Any, Any]
) -> Iterator[tuple[int, Tensor, Mapping[str, Any]]]:
    """Position and parameter, with what was saved for it; those that had taken no step are left out."""
    for position, (index, param) in enumerate(zip(saved["params"], group["params"], strict=False)):
        if states.get(index):
            yield position, param, states[index]


def _step(saved: float | Tensor, param: Tensor, capturable: bool) -> int | Tensor:
    count = int(saved)
    return torch.full((), count, dtype=torch.float64, device=param.device) if capturable else count


def _placed(saved: Tensor, kind: Kind, param: Tensor, capturable: bool) -> Tensor:
    if kind is not Kind.ELEMENTWISE:
        on_host = kind is Kind.UNIFORM and not capturable
        return saved.detach().to(device="cpu" if on_host else param.device, copy=True)
    own = torch.empty_like(param, dtype=saved.dtype, memory_format=torch.preserve_format, requires_grad=False)
    return own.copy_(saved.detach())  # laid out and distributed as the parameter is, whatever it was when saved


def _blank(kind: Kind, param: Tensor) -> Tensor:
    """A tensor shaped as a memory entry of this parameter."""
    return param if kind is Kind.ELEMENTWISE else torch.empty(memory_shape(kind, param.shape), device="meta")


def _check_state(name: str, key: str, saved: Tensor, like: Tensor) -> None:
    if saved.shape != like.shape:
        raise CheckpointError(
            f'{name}: this state_dict has a state "{key}" of shape {tuple(saved.shape)}, and {tuple(like.shape)} is '
            "needed; it is of another model, or its parameters are in another order"
        )
    if is_distributed(saved) != is_distributed(like):
        raise CheckpointError(
            f'{name}: of state "{key}" and its parameter one is distributed and the other is not; load with '
            "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict"
        )


def _check_same_states(saved: object, own: str) -> None:
    if not isinstance(saved, str):
        raise RuleError("this state_dict was not saved by a RuleOptimizer: its parameter groups name no rule")
    if memory_kinds(program_of(saved)) != memory_kinds(program_of(own)):
        raise RuleError(
            f'this state_dict belongs to rule "{rule_of(saved).name}" (states: {_listed(saved)}); '
            f'this optimizer runs rule "{rule_of(own).name}" (states: {_listed(own)})'
        )


def _listed(rule: str) -> str:
    return ", ".join(memory_kinds(program_of(rule))) or "none"
