"""`RuleOptimizer`: any rule as a drop-in `torch.optim.Optimizer`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, ParamsT

from closedform.codegen import NativeUnavailable
from closedform.errors import CheckpointError, ClosedFormError, OptionError
from closedform.optim._backends import Cohort, Settings
from closedform.optim._compiled import PLAIN, Compiled
from closedform.optim._groups import (
    OPEN_CONSTANTS,
    RUN_OPTIONS,
    check_group,
    check_has_rule,
    check_horizon,
    check_not_captured,
    former_options,
    list_once,
    plain_options,
)
from closedform.optim._loading import check_saved, restore
from closedform.optim._rules import rule_of
from closedform.optim._shards import on_shards
from closedform.optim._steps import BACKENDS, StepRequest
from closedform.optim._works import Work, Works, noise_of, nothing_moves, only_begins
from closedform.rules import Rule, load_rule


class RuleOptimizer(Optimizer):
    """Train with a rule: ``w <- w + lr * (update - weight_decay * w)``.

    Args:
        params: Parameters, named parameters, or parameter groups. A group may set its own ``lr``, ``weight_decay``,
            ``maximize``, ``rule`` and ``total_steps``.
        rule: A library name ("adam"), a path to a rule file, or a `Rule`; not needed if every group has its own.
        lr: Learning rate (units of parameter per unit of update), a number or a tensor of one element; the rule's own
            default if None. A group holds it as a float, or as a scalar tensor on the same memory.
        weight_decay: Decoupled weight decay (update per unit of parameter).
        maximize: Ascend the objective.
        backend: "compiled" runs native code generated from the rule, compiled once and kept (a C compiler is needed);
            "eager" runs torch operations on flat blocks, "reference" on one tensor at a time. None takes the fastest
            that works, and warns once if that is not the compiled one on the CPU.
        state_dtype: Type of states that are kept for every parameter, the parameter's own if None. torch.bfloat16
            halves the memory of float32 states; they are then rounded stochastically, so that small changes add up.
        capturable: Count steps on the parameters' device and never wait for it, so that a step can be captured as a
            CUDA graph (give ``lr`` as a tensor there to change it between replays).
        total_steps: Number of steps of the whole run, which rules that read ``T`` or ``progress`` must know. Past it
            ``progress`` stays 1, with one warning (none if ``capturable``). It is saved and loaded with the group.

    Raises:
        RuleError, UnknownNameError: the rule cannot be loaded.
        OptionError: a learning rate, weight decay, back end, state type or number of steps that makes no sense, or the
            rule needs ``total_steps``.

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
        rule: Rule | str | Path | None = None,
        lr: float | Tensor | None = None,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        state_dtype: torch.dtype | None = None,
        capturable: bool = False,
        total_steps: int | None = None,
    ) -> None:
        self._compiled = Compiled()
        self._overran: set[int] = set()
        self._works = Works()
        defaults = {
            # text, so that a state_dict loads under weights_only=True
            "rule": None if rule is None else load_rule(rule).to_json(),
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "backend": backend,
            "state_dtype": state_dtype,
            "capturable": capturable,
            "total_steps": total_steps,
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
        try:
            list_once(group)
            check_has_rule(group)
            if group["lr"] is None:
                group["lr"] = rule_of(group["rule"]).lr
            plain_options(group)
            check_group(group)
            check_horizon(group)
        except ClosedFormError:
            self.param_groups.pop()
            raise

    @property
    def rule(self) -> Rule:
        """The rule of the first parameter group."""
        return rule_of(self.param_groups[0]["rule"])

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
            OptionError: a gradient is sparse, a parameter is complex or on the meta device, or a parameter was changed
                between steps and its gradient or state was not; names it, and nothing was changed. Or the back end
                that was asked for cannot run here.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; states keep the type they were saved with. After a failure the optimizer is as it was.

        Raises:
            RuleError: the states belong to a rule that keeps other states; names both.
            CheckpointError: the state_dict is damaged or of other parameters: an option makes no sense, or a
                parameter's states are missing or of another shape; names it.
        """
        own = [{option: group[option] for option in RUN_OPTIONS} for group in self.param_groups]
        horizons = [group["total_steps"] for group in self.param_groups]
        loaded: dict[str, Any] = {}

        def before(_: Optimizer, saved: dict[str, Any]) -> None:
            check_saved(self.param_groups, saved)
            loaded.update(saved)

        def after(_: Optimizer) -> None:
            for group, options in zip(self.param_groups, own, strict=True):
                group.update(options)
                group.pop("foreach", None)  # had once, like the options that are kept
                plain_options(group)
            for group, horizon in zip(self.param_groups, horizons, strict=True):
                group["total_steps"] = horizon if group["total_steps"] is None else group["total_steps"]
            restore(self.param_groups, loaded, self.state)
            self._works = Works(self.state, self._works)

        if not isinstance(state_dict, dict):
            raise CheckpointError(f"a state_dict is a dict, not {type(state_dict).__name__}")
        hooks = [  # the first sees what the user's hooks made of it, and theirs see what the second made
            self.register_load_state_dict_pre_hook(before),
            self.register_load_state_dict_post_hook(after, prepend=True),
        ]
        kept = dict(self.__dict__)  # torch replaces what it loads, and changes nothing in place
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self.__dict__.update(kept)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled = Compiled()
        self._overran = set()
        for group in self.param_groups:
            former_options(group)
            group.setdefault("maximize", False)
            group.setdefault("capturable", False)
            for option in ("backend", "state_dtype", "total_steps"):
                group.setdefault(option, None)
        self._works = Works(self.state)

    def __repr__(self) -> str:
        lines = [self.__class__.__name__ + " ("]
        for index, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={group[key]}" for key in ("lr", "weight_decay", "maximize"))
            count = len(group["params"])
            lines.append(f"  group {index}: rule={rule_of(group['rule']).name}, {options}, {count} parameters")
        return "\n".join([*lines, ")"])

    @_disable_dynamo  # a compiled training loop calls it as it is: it runs compiled code anyway
    def _step(self) -> None:
        begins = not self.state
        works = [
            work
            for index, group in enumerate(self.param_groups)
            for work in self._works.gather(index, group, self.state)
        ]
        try:
            for work in works:
                self._works.look(work)
        except OptionError:
            for param in chain(*[work.begun for work in works]):  # their shapes may not be those that they will have
                self.state.pop(param, None)
            raise
        if begins and only_begins(self.param_groups, works):
            return
        for work in works:
            self._advance(work)

    def _advance(self, work: Work) -> None:
        group, t = work.group, work.states[0]["step"] + 1
        settings = Settings(
            t,
            group["lr"],
            float(group["weight_decay"]),  # may be held as a tensor
            group["maximize"],
            noise_of(work, t),
            self._horizon(work, t),
            tuple(group.get(OPEN_CONSTANTS, ())),
        )
        cohort = Cohort(work.params, work.grads, work.states)
        unmoved = [param.clone() for param in work.params] if nothing_moves(group) else []
        if {*map(type, work.params)} <= PLAIN:
            self._run(work, StepRequest(group["rule"], cohort, settings, work.place, self._compiled, work.seen))
        else:
            with on_shards(cohort) as local:
                self._run(work, StepRequest(group["rule"], local, settings, work.place, self._compiled))
        for param, before in zip(work.params, unmoved, strict=False):
            param.copy_(before)
        if isinstance(t, Tensor):
            torch._foreach_add_([state["step"] for state in work.states], 1)
            self._works.moved(work)
        else:
            for state in work.states:
                state["step"] = t

    def _horizon(self, work: Work, t: int | Tensor) -> int | None:
        """T, if the rule reads it; the first step past it warns."""
        group, index = work.group, work.place[0]
        if not rule_of(group["rule"]).needs_total_steps:
            return None
        check_horizon(group)  # the group may have been changed since
        total: int = group["total_steps"]
        if not isinstance(t, Tensor) and t > total and index not in self._overran:
            self._overran.add(index)
            _warn(f'step {t} is past total_steps={total}: rule "{rule_of(group["rule"]).name}" stays at progress = 1')
        return total

    def _run(self, work: Work, step: StepRequest) -> None:
        group, device = work.group, step.cohort.params[0].device
        backend: str | None = group["backend"]
        if not group["capturable"]:
            check_not_captured(device)
        compiled_on = ("cuda",) if group["capturable"] else ("cpu", "cuda")
        fastest = "compiled" if device.type in compiled_on else "eager"
        try:
            BACKENDS[backend or fastest](step)
        except NativeUnavailable as reason:
            if backend is not None:
                raise OptionError(f'backend="compiled" cannot be used: {reason}; take backend=None') from None
            _warn_once(f"rules run as torch operations, not compiled: {reason}")
            BACKENDS["eager"](step)


@lru_cache(maxsize=16)
def _warn_once(text: str) -> None:
    _warn(text)


def _warn(text: str) -> None:
    """Warn, as the training script's line that took the step: torch wraps steps in a varying number of functions."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("closedform", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
