"""`RuleOptimizer`: any rule as a drop-in `torch.optim.Optimizer`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from closedform._names import unknown_name_message
from closedform.errors import OptionError, RuleError
from closedform.lang import Program, memory_kinds
from closedform.optim._backends import BACKENDS, Settings, Slot, new_memory
from closedform.optim._compiled import Compiled
from closedform.optim._native_build import NativeUnavailable
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
        foreach: True is short for ``backend="eager"``, False for ``backend="reference"``.
        backend: "compiled" runs native code generated from the rule, compiled once and kept (a C compiler is needed);
            "eager" runs torch operations on flat blocks, "reference" on one tensor at a time. None takes the fastest
            that works, and warns once if that is not the compiled one on the CPU.
        state_dtype: Type of states that are kept for every parameter, the parameter's own if None. torch.bfloat16
            halves the memory of float32 states; they are then rounded stochastically, so that small changes add up.

    Raises:
        RuleError, UnknownNameError: the rule cannot be loaded.
        OptionError: a learning rate, weight decay, back end or state type that makes no sense.

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
        backend: str | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        self._compiled = Compiled()
        defaults = {
            "rule": load_rule(rule).to_json(),  # text, so that a state_dict loads under weights_only=True
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "backend": backend,
            "state_dtype": state_dtype,
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
            OptionError: a gradient is sparse, or a parameter is complex; names it. Or the back end that was asked for
                cannot run here.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            self._step_group(index, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; states keep the type they were saved with.

        Raises:
            RuleError: the states belong to a rule that keeps other states; names both.
        """
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
            _check_same_states(saved.get("rule"), group["rule"])
        backends = [(group["backend"], group["foreach"]) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, (backend, foreach) in zip(self.param_groups, backends, strict=True):
            group.update(backend=backend, foreach=foreach)  # what runs here is no part of what was saved
        saved_ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved_ids, params, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, Tensor):  # torch would cast it to the parameter's type
                    device = value.device if value.dtype == torch.float64 and value.dim() == 0 else param.device
                    self.state[param][key] = value.detach().to(device=device, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled = Compiled()
        for group in self.param_groups:
            group.setdefault("maximize", False)
            for option in ("foreach", "backend", "state_dtype"):
                group.setdefault(option, None)

    def __repr__(self) -> str:
        lines = [self.__class__.__name__ + " ("]
        for index, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={group[key]}" for key in ("lr", "weight_decay", "maximize", "foreach"))
            count = len(group["params"])
            lines.append(f"  group {index}: rule={_rule(group['rule']).name}, {options}, {count} parameters")
        return "\n".join([*lines, ")"])

    def _step_group(self, index: int, group: dict[str, Any]) -> None:
        program = _program(group["rule"])
        batches: dict[tuple[int, torch.dtype, torch.device], tuple[list[Tensor], list[dict[str, Any]]]] = {}
        for position, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            dtype = param.dtype
            if dtype.is_complex or grad.layout is not torch.strided:
                raise _refusal(param, _name(group, position))
            state = self.state[param]
            if not state:
                state["step"] = 0
                state.update(new_memory(program, param, group["state_dtype"]))
            t = state["step"] = state["step"] + 1
            params, states = batches.setdefault((t, dtype, param.device), ([], []))
            params.append(param)
            states.append(state)
        for place, ((t, _, device), (params, states)) in enumerate(batches.items()):
            generator = None
            if group["state_dtype"] is torch.bfloat16:
                generator = torch.Generator(device).manual_seed((t << 32) + (index << 16) + place)
            settings = Settings(t, group["lr"], group["weight_decay"], group["maximize"], generator)
            self._advance((index, place), group, params, states, settings)

    def _advance(
        self,
        place: tuple[int, int],
        group: Mapping[str, Any],
        params: list[Tensor],
        states: list[dict[str, Any]],
        settings: Settings,
    ) -> None:
        backend = _backend(group)
        if backend == "compiled" or (backend is None and params[0].device.type in ("cpu", "cuda")):
            try:
                return self._compiled.step(place, group["rule"], params, states, settings)
            except NativeUnavailable as reason:
                if backend == "compiled":
                    raise OptionError(f'backend="compiled" cannot be used: {reason}; take backend=None') from None
                _warn_once(str(reason))
        memories = [{key: value for key, value in state.items() if key != "step"} for state in states]
        slots = [
            Slot(param, param.grad, memory)  # type: ignore[arg-type]  # those without were left out
            for param, memory in zip(params, memories, strict=True)
        ]
        BACKENDS[backend or "eager"](_program(group["rule"]), slots, settings)


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
    if group["backend"] not in (None, "compiled", *BACKENDS):
        raise OptionError(unknown_name_message("backend", str(group["backend"]), {"compiled": None, **BACKENDS}))
    if group["backend"] is not None and group["foreach"] is not None:
        raise OptionError("give backend or foreach, not both")
    if group["state_dtype"] is not None and not getattr(group["state_dtype"], "is_floating_point", False):
        raise OptionError(f"state_dtype must be a floating-point torch.dtype, got {group['state_dtype']!r}")


def _refusal(param: Tensor, name: str) -> OptionError:
    if param.is_complex():
        return OptionError(f"{name}: it is complex; rules are defined for real parameters (use torch.view_as_real)")
    return OptionError(f"{name}: its gradient is sparse; rules need dense gradients (Embedding(sparse=False))")


def _backend(group: Mapping[str, Any]) -> str | None:
    if group["backend"] is None and group["foreach"] is not None:
        return "eager" if group["foreach"] else "reference"
    backend: str | None = group["backend"]
    return backend


@lru_cache(maxsize=16)
def _warn_once(reason: str) -> None:
    warnings.warn(f"rules run as torch operations, not compiled: {reason}", stacklevel=5)


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
