"""What a parameter group holds: its options make sense, its parameters can be trained, its rule is parsed once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from closedform._names import unknown_name_message
from closedform.errors import OptionError
from closedform.lang import Program
from closedform.optim._backends import BACKENDS
from closedform.rules import Rule

RUN_OPTIONS = ("foreach", "backend", "capturable")
"""Options that say how steps run here; they are no part of what was saved."""


@lru_cache(maxsize=64)
def rule_of(text: str) -> Rule:
    """The rule of a group, which is kept as text."""
    return Rule.from_json(text)


@lru_cache(maxsize=64)
def program_of(text: str) -> Program:
    """The program that a group's rule runs."""
    return rule_of(text).program.merged


def check_has_rule(group: Mapping[str, Any]) -> None:
    """Refuse a group without a rule.

    Raises:
        OptionError: neither the group nor the optimizer was given one.
    """
    if group["rule"] is None:
        raise OptionError('a parameter group has no rule: RuleOptimizer(params, "adam"), or "rule" in every group')


def check_group(group: Mapping[str, Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        OptionError: names the option and what it may be.
    """
    lr, decay = group["lr"], group["weight_decay"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise OptionError(f"lr must be a number or a tensor of one element, got shape {tuple(lr.shape)}")
    if not isinstance(lr, Tensor) and not (isinstance(lr, (int, float)) and math.isfinite(lr) and lr >= 0):
        raise OptionError(f"lr must be a finite number >= 0, got {lr!r}")
    if not (isinstance(decay, (int, float)) and math.isfinite(decay) and decay >= 0):
        raise OptionError(f"weight_decay must be a finite number >= 0, got {decay!r}")
    if group["backend"] not in (None, "compiled", *BACKENDS):
        raise OptionError(unknown_name_message("backend", str(group["backend"]), {"compiled": None, **BACKENDS}))
    if group["backend"] is not None and group["foreach"] is not None:
        raise OptionError("give backend or foreach, not both")
    if group["state_dtype"] is not None and not getattr(group["state_dtype"], "is_floating_point", False):
        raise OptionError(f"state_dtype must be a floating-point torch.dtype, got {group['state_dtype']!r}")


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
    elif not isinstance(total, int) or isinstance(total, bool) or total < 1:
        raise OptionError(f"total_steps must be a whole number of steps, 1 or more, got {total!r}")


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


def backend_of(group: Mapping[str, Any]) -> str | None:
    """The back end that the group asks for; None for the fastest that works."""
    if group["backend"] is None and group["foreach"] is not None:
        return "eager" if group["foreach"] else "reference"
    backend: str | None = group["backend"]
    return backend


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
