"""Resuming: a saved state is that of this rule and of these parameters, and is kept as it was saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from closedform.errors import CheckpointError, OptionError, RuleError
from closedform.lang import Kind, memory_kinds, memory_shape
from closedform.optim._groups import LARGEST_STEP, RUN_OPTIONS, check_group, check_horizon, parameter_name
from closedform.optim._rules import program_of, rule_of
from closedform.optim._shards import is_distributed

_RATES = ("initial_lr", "max_lr", "min_lr", "swa_lr")
"""What schedulers keep in groups besides ``lr``."""


def check_saved(groups: Sequence[Mapping[str, Any]], state_dict: Mapping[str, Any]) -> None:
    """Refuse a state_dict that these groups cannot go on from, before anything is changed.

    Raises:
        RuleError: the states belong to a rule that keeps other states; names both.
        CheckpointError: something is missing, or is not what belongs there; names it.
    """
    _check_form(groups, state_dict)
    for number, (saved, group) in enumerate(zip(state_dict["param_groups"], groups, strict=True)):
        _check_same_states(saved.get("rule"), group["rule"])
        _check_options(f"parameter group {number}", saved, group)
        kinds = memory_kinds(program_of(group["rule"]))
        for position, param, state in _states(saved, group, state_dict["state"]):
            name = parameter_name(group, position)
            for key in ("step", *kinds):
                if key not in state:
                    raise CheckpointError(f'{name}: this state_dict has no state "{key}"; it is damaged')
            _check_step(name, state["step"])
            for key, kind in kinds.items():
                _check_state(name, key, state[key], _blank(kind, param))


def _check_form(groups: Sequence[Mapping[str, Any]], state_dict: object) -> None:
    """The frame: groups like these, with indices of as many parameters, and states of those alone."""
    if not isinstance(state_dict, dict):
        raise _damaged(f"it is a {type(state_dict).__name__}, not a dict")
    found, states = state_dict.get("param_groups"), state_dict.get("state")
    if not isinstance(found, list) or not all(isinstance(saved, dict) for saved in found):
        raise _damaged('it has no list "param_groups" of dicts')
    if not isinstance(states, dict):
        raise _damaged('it has no dict "state"')
    if len(found) != len(groups):
        raise CheckpointError(f"this state_dict has {len(found)} parameter groups, and this optimizer {len(groups)}")
    listed: set[int | str] = set()
    count = 0
    for number, (saved, group) in enumerate(zip(found, groups, strict=True)):
        params, names = saved.get("params"), saved.get("param_names")
        if not isinstance(params, list) or not all(type(index) in (int, str) for index in params):
            raise _damaged(f'its parameter group {number} has no list "params" of indices')
        if len(params) != len(group["params"]):
            raise CheckpointError(
                f"parameter group {number} of this state_dict has {len(params)} parameters, which doesn't match the "
                f"size of the optimizer's: {len(group['params'])}"
            )
        if names is not None and not (_are_names(names) and len(names) == len(params)):
            raise _damaged(f'"param_names" of its parameter group {number} are not a name for each parameter')
        listed |= {*params}
        count += len(params)
    if len(listed) < count:
        raise _damaged("it lists a parameter twice")
    for index, state in states.items():
        if type(index) is not str and index not in listed:
            raise _damaged(f"it has states of a parameter {index!r:.50} that none of its groups lists")
        if index in listed and not (isinstance(state, dict) and all(isinstance(key, str) for key in state)):
            raise _damaged(f"the state of parameter {index!r:.50} is not a dict of named values")


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _check_options(name: str, saved: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    """The options that a group will run with make sense; those that say how steps run here stay the optimizer's own."""
    for option in ("lr", "weight_decay"):
        if option not in saved:
            raise _damaged(f'{name} has no "{option}"')
    if not isinstance(saved.get("maximize", False), bool):
        raise _damaged(f"{name}: maximize must be True or False, got {saved['maximize']!r:.100}")
    own = {option: group[option] for option in (*RUN_OPTIONS, "state_dtype", "total_steps", "rule")}
    merged = {**own, **{key: value for key, value in saved.items() if key not in RUN_OPTIONS}}
    merged["total_steps"] = own["total_steps"] if merged["total_steps"] is None else merged["total_steps"]
    try:
        check_group(merged)
        check_horizon(merged)
        for option in {*_RATES} & {*saved}:
            check_group({**merged, "lr": saved[option]})
        deepcopy({key: value for key, value in saved.items() if not isinstance(value, Tensor)})  # as torch will
    except OptionError as error:
        raise _damaged(f"{name}: {error}") from None
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _damaged(f"{name}: an option cannot be copied ({error!r:.100})") from None


def _check_step(name: str, step: object) -> None:
    single = isinstance(step, Tensor) and step.numel() == 1 and not (step.is_meta or step.is_complex())
    number: Any = step.item() if single and isinstance(step, Tensor) else step
    whole = type(number) in (int, float) and 0 <= number <= LARGEST_STEP and number == int(number)
    if not whole:
        raise _damaged(f'{name}: "step" must be a whole number of steps, got {step!r:.100}')


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(f"this state_dict is damaged: {what}")


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


def _check_state(name: str, key: str, saved: object, like: Tensor) -> None:
    if not isinstance(saved, Tensor):
        raise _damaged(f'{name}: its state "{key}" is a {type(saved).__name__}, not a tensor')
    if not saved.is_floating_point() or saved.layout is not torch.strided or saved.is_meta:
        raise _damaged(f'{name}: its state "{key}" is {saved.dtype} ({saved.layout}, on {saved.device}), not numbers')
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
