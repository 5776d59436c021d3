"""What a parameter group holds: its options make sense, and its parameters can be trained."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from closedform._names import unknown_name_message
from closedform.errors import OptionError
from closedform.optim._rules import rule_of
from closedform.optim._steps import BACKENDS

LARGEST_STEP = 2**53
"""Steps are counted in double precision."""
RUN_OPTIONS = ("backend", "capturable")
"""Options that say how steps run here; they are no part of what was saved."""

OPEN_CONSTANTS = "open_constants"
"""Optional entry of a group: names of its rule's constants that are about to change often, a list."""


def check_has_rule(group: Mapping[str, Any]) -> None:
    """Refuse a group without a rule.

    Raises:
        OptionError: neither the group nor the optimizer was given one.
    """
    if group["rule"] is None:
        raise OptionError('a parameter group has no rule: RuleOptimizer(params, "adam"), or "rule" in every group')


def rate_of(value: Any, option: str = "lr") -> float | Tensor:
    """A learning rate or weight decay as people hold it, as a plain number or a scalar tensor on the same memory.

    Args:
        value: A number of Python or numpy, or a tensor or array of one element and any shape.
        option: How messages call it.

    Raises:
        OptionError: it is something else.
    """
    if type(value) is float:
        return value
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex() or value.dtype is torch.bool or value.is_meta:
            raise OptionError(
                f"{option} must be a number or a tensor of one element, got {value.dtype} of shape {tuple(value.shape)}"
            )
        return value.detach().reshape(()) if value.dim() or value.requires_grad else value
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        value = value.item()  # numpy
    if not isinstance(value, numbers.Real):
        raise OptionError(f"{option} must be a number or a tensor of one element, got {value!r:.100}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def plain_options(group: dict[str, Any]) -> None:
    """Hold a group's numbers as plain ones or scalar tensors, so that schedulers and files take them as well.

    Raises:
        OptionError: one is no number.
    """
    for option in ("lr", "weight_decay"):
        if type(group[option]) is not float:
            group[option] = rate_of(group[option], option)
    total = group["total_steps"]
    if isinstance(total, numbers.Integral) and not isinstance(total, bool):
        group["total_steps"] = int(total)


def check_group(group: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        OptionError: names the option and what it may be.
    """
    for option in ("lr", "weight_decay"):
        value = rate_of(group[option], option)
        known = not isinstance(value, Tensor) or value.device.type == "cpu"  # else one would wait for the device
        if known and not (math.isfinite(value) and value >= 0):
            raise OptionError(f"{option} must be a finite number >= 0, got {float(value)}")
    if group["backend"] not in (None, *BACKENDS):
        raise OptionError(unknown_name_message("backend", str(group["backend"]), BACKENDS))
    dtype = group["state_dtype"]
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise OptionError(f"state_dtype must be a floating-point torch.dtype, got {dtype!r:.100}")


def check_horizon(group: Mapping[str, Any]) -> None:
    """Refuse a number of steps that is none, and a rule that needs one and has none.

    Raises:
        OptionError: names the rule or the value.
    """
    total, rule = group["total_steps"], rule_of(group["rule"])
    if total is None:
        if rule.needs_total_steps:
            raise OptionError(
                f'rule "{rule.name}" reads the horizon (T or progress): give total_steps, the steps of the whole run'
            )
    elif not isinstance(total, numbers.Integral) or isinstance(total, bool) or not 1 <= int(total) <= LARGEST_STEP:
        raise OptionError(f"total_steps must be a whole number of steps, 1 or more, got {total!r:.100}")


def check_parameter(group: Mapping[str, Any], position: int) -> None:
    """Refuse a parameter that no rule can move.

    Raises:
        OptionError: it is complex, or on the meta device; names it.
    """
    param, name = group["params"][position], parameter_name(group, position)
    if param.is_complex():
        raise OptionError(f"{name}: it is complex; rules are defined for real parameters (use torch.view_as_real)")
    if param.is_meta:
        raise OptionError(
            f"{name}: it is on the meta device and has no values; load the model (to_empty) before a step"
        )


def sparse_refusal(group: Mapping[str, Any], position: int) -> OptionError:
    """The error for a gradient that is not dense."""
    name = parameter_name(group, position)
    return OptionError(f"{name}: its gradient is sparse; rules need dense gradients (Embedding(sparse=False))")


def parameter_name(group: Mapping[str, Any], position: int) -> str:
    """How messages call a parameter: by its name, if the optimizer was given names."""
    names = group.get("param_names")
    return f'parameter "{names[position]}"' if names else f"parameter {position}"


def list_once(group: dict[str, Any]) -> None:
    """Drop repetitions of a parameter (torch has warned of them): it takes one step at a time, not two."""
    first = {param: position for position, param in reversed(list(enumerate(group["params"])))}
    positions = sorted(first.values())
    for key in {"params", "param_names"} & set(group):
        group[key] = [group[key][position] for position in positions]


def former_options(group: dict[str, Any]) -> None:
    """Turn options that groups had once into those of today: ``foreach`` was short for a back end."""
    foreach = group.pop("foreach", None)
    if foreach is not None and group.get("backend") is None:
        group["backend"] = "eager" if foreach else "reference"


def check_not_captured(device: torch.device) -> None:
    """Refuse to be captured as a CUDA graph: every replay would take the same step again.

    Raises:
        OptionError: a graph is being captured.
    """
    if device.type == "cuda" and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise OptionError(
            "a CUDA graph is being captured, and this optimizer counts its steps on the host; give capturable=True "
            "and take one step before the capture"
        )
