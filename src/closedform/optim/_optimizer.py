"""`RuleOptimizer`: any rule as a drop-in `torch.optim.Optimizer`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from closedform.errors import OptionError, RuleError
from closedform.lang import Program, memory_kinds
from closedform.optim._backends import BACKENDS, Settings, Slot, new_memory
from closedform.rules import Rule, load_rule


class RuleOptimizer(Optimizer):
    """Train with a rule: ``w <- w + lr * (update - weight_decay * w)``.

    Args:
        params: Parameters, named parameters, or parameter groups. A group may set its own ``lr``, ``weight_decay``,
            ``maximize`` and ``rule``.
        rule: A library name ("adam"), a path to a rule file, or a `Rule`.
        lr: Learning rate (units of parameter per unit of update), a float or a scalar tensor; the rule's own default
            if None.
        weight_decay: Decoupled weight decay (update per unit of parameter).
        maximize: Ascend the objective.
        foreach: True updates tensors together in flat blocks, False one by one with the reference interpreter; None
            chooses.

    Raises:
        RuleError, UnknownNameError: the rule cannot be loaded.
        OptionError: a learning rate or weight decay that makes no sense.

    A parameter's state is created at its first step and named after the rule's states: ``optimizer.state[p]["m"]``.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = RuleOptimizer(layer.parameters(), "adam", lr=1e-3)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[layer.weight])
        ['m', 'step', 'v']
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule | str | Path,
        lr: float | Tensor | None = None,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "rule": load_rule(rule).to_json(),  # text, so that a state_dict loads under weights_only=True
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; see `torch.optim.Optimizer.add_param_group`. A group may bring its own ``rule``."""
        if "rule" in param_group:
            given = param_group["rule"]
            is_text = isinstance(given, str) and given.lstrip().startswith("{")
            param_group["rule"] = given if is_text else load_rule(given).to_json()
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["lr"] is None:
            group["lr"] = _rule(group["rule"]).lr
        try:
            _check_group(group)
        except OptionError:
            self.param_groups.pop()
            raise

    @property
    def rule(self) -> Rule:
        """The rule of the first parameter group."""
        return _rule(self.param_groups[0]["rule"])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Advance every parameter that has a gradient by one step.

        Args:
            closure: Re-evaluates the model and returns the loss.

        Returns:
            The closure's loss, or None.

        Raises:
            OptionError: a gradient is sparse, or a parameter is complex; names it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; states keep the type they were saved with.

        Raises:
            RuleError: the states belong to a rule that keeps other states; names both.
        """
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
            _check_same_states(saved.get("rule"), group["rule"])
        super().load_state_dict(state_dict)
        saved_ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved_ids, params, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, Tensor):  # torch would cast it to the parameter's type
                    device = value.device if value.dtype == torch.float64 and value.dim() == 0 else param.device
                    self.state[param][key] = value.detach().to(device=device, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)

    def __repr__(self) -> str:
        lines = [self.__class__.__name__ + " ("]
        for index, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={group[key]}" for key in ("lr", "weight_decay", "maximize", "foreach"))
            count = len(group["params"])
            lines.append(f"  group {index}: rule={_rule(group['rule']).name}, {options}, {count} parameters")
        return "\n".join([*lines, ")"])

    def _step_group(self, group: dict[str, Any]) -> None:
        program = _program(group["rule"])
        batches: dict[tuple[float, torch.dtype, torch.device], list[Slot]] = defaultdict(list)
        for position, param in enumerate(group["params"]):
            if param.grad is None:
                continue
            _check_gradient(param, _name(group, position))
            state = self.state[param]
            if not state:
                state["step"] = 0
                state.update(new_memory(program, param))
            state["step"] += 1
            memory = {key: value for key, value in state.items() if key != "step"}
            batches[state["step"], param.dtype, param.device].append(Slot(param, param.grad, memory))
        advance = BACKENDS["reference" if group["foreach"] is False else "eager"]
        for (t, _, _), slots in batches.items():
            advance(program, slots, Settings(t, group["lr"], group["weight_decay"], group["maximize"]))


@lru_cache(maxsize=64)
def _rule(text: str) -> Rule:
    return Rule.from_json(text)


@lru_cache(maxsize=64)
def _program(text: str) -> Program:
    return _rule(text).program.merged


def _name(group: Mapping[str, Any], position: int) -> str:
    names = group.get("param_names")
    return f'parameter "{names[position]}"' if names else f"parameter {position}"


def _check_group(group: Mapping[str, Any]) -> None:
    lr, decay = group["lr"], group["weight_decay"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise OptionError(f"lr must be a number or a tensor of one element, got shape {tuple(lr.shape)}")
    if not isinstance(lr, Tensor) and not (isinstance(lr, (int, float)) and math.isfinite(lr) and lr >= 0):
        raise OptionError(f"lr must be a finite number >= 0, got {lr!r}")
    if not (isinstance(decay, (int, float)) and math.isfinite(decay) and decay >= 0):
        raise OptionError(f"weight_decay must be a finite number >= 0, got {decay!r}")


def _check_gradient(param: Tensor, name: str) -> None:
    grad = param.grad
    assert grad is not None
    if grad.is_sparse or grad.layout is not torch.strided:
        raise OptionError(f"{name}: its gradient is sparse; rules need dense gradients (Embedding(sparse=False))")
    if param.is_complex():
        raise OptionError(f"{name}: it is complex; rules are defined for real parameters (use torch.view_as_real)")


def _check_same_states(saved: object, own: str) -> None:
    if not isinstance(saved, str):
        raise RuleError("this state_dict was not saved by a RuleOptimizer: its parameter groups name no rule")
    theirs, mine = _rule(saved), _rule(own)
    if memory_kinds(_program(saved)) != memory_kinds(_program(own)):
        kept = ", ".join(memory_kinds(_program(saved))) or "none"
        needed = ", ".join(memory_kinds(_program(own))) or "none"
        raise RuleError(
            f'this state_dict belongs to rule "{theirs.name}" (states: {kept}); '
            f'this optimizer runs rule "{mine.name}" (states: {needed})'
        )
