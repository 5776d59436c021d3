"""`RuleOptimizer`: any rule as a drop-in `torch.optim.Optimizer`."""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
from closedform.lang import memory_kinds
from closedform.optim._backends import BACKENDS, Cohort, Settings, new_memory
from closedform.optim._compiled import PLAIN, Compiled
from closedform.optim._groups import (
    RUN_OPTIONS,
    backend_of,
    check_group,
    check_has_rule,
    check_horizon,
    check_not_captured,
    check_parameter,
    list_once,
    memory_keys,
    parameter_name,
    plain_options,
    program_of,
    rule_of,
    sparse_refusal,
)
from closedform.optim._loading import check_saved, restore
from closedform.optim._noise import Noise
from closedform.optim._shards import is_zero, on_shards
from closedform.optim._surgery import Look, check_count, check_fit, look
from closedform.rules import Rule, load_rule

_GRAD = Tensor.grad.__get__  # type: ignore[union-attr]  # a descriptor of C


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
        foreach: True is short for ``backend="eager"``, False for ``backend="reference"``.
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
        foreach: bool | None = None,
        backend: str | None = None,
        state_dtype: torch.dtype | None = None,
        capturable: bool = False,
        total_steps: int | None = None,
    ) -> None:
        self._compiled = Compiled()
        self._overran: set[int] = set()
        self._seen: dict[Hashable, tuple[str, Look]] = {}
        self._together: dict[Tensor, Hashable] = {}
        defaults = {
            # text, so that a state_dict loads under weights_only=True
            "rule": None if rule is None else load_rule(rule).to_json(),
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
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
                plain_options(group)
            for group, horizon in zip(self.param_groups, horizons, strict=True):
                group["total_steps"] = horizon if group["total_steps"] is None else group["total_steps"]
            restore(self.param_groups, loaded, self.state)
            self._regroup()

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
        self._seen = {}
        for group in self.param_groups:
            group.setdefault("maximize", False)
            group.setdefault("capturable", False)
            for option in ("foreach", "backend", "state_dtype", "total_steps"):
                group.setdefault(option, None)
        self._regroup()

    def __repr__(self) -> str:
        lines = [self.__class__.__name__ + " ("]
        for index, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={group[key]}" for key in ("lr", "weight_decay", "maximize", "foreach"))
            count = len(group["params"])
            lines.append(f"  group {index}: rule={rule_of(group['rule']).name}, {options}, {count} parameters")
        return "\n".join([*lines, ")"])

    @_disable_dynamo  # a compiled training loop calls it as it is: it runs compiled code anyway
    def _step(self) -> None:
        begins = not self.state
        works = [work for index, group in enumerate(self.param_groups) for work in self._gather(index, group)]
        try:
            for work in works:
                self._look(work)
        except OptionError:
            for param in chain(*[work.begun for work in works]):  # their shapes may not be those that they will have
                self.state.pop(param, None)
            raise
        if begins and _only_begins(self.param_groups, works):
            return
        for work in works:
            self._advance(work)

    def _gather(self, index: int, group: dict[str, Any]) -> list[_Work]:
        """Parameters of a group that have gradients, those together that take the same step; changes no parameter."""
        plain_options(group)  # a scheduler may have set a number of numpy's
        if (alike := self._all_as_they_were(index, group)) is not None:
            return [alike]
        capturable = group["capturable"]
        found: dict[Hashable, _Work] = {}
        for position, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise sparse_refusal(group, position)
            begins = not self.state[param]
            state = self._begin(group, position) if begins else self.state[param]
            step = state["step"] if type(state) is dict and "step" in state else None
            if type(step) is not int:
                step = check_count(parameter_name(group, position), state)
                state["step"] = step = step if capturable else int(step)
            key = (self._together.get(param, param) if capturable else step, param.dtype, param.device)
            work = found.get(key)
            if work is None:
                work = found[key] = _Work((index, len(found)), group)
            work.positions.append(position)
            if begins:
                work.begun.append(param)
            work.params.append(param)
            work.grads.append(grad)
            work.states.append(state)
        return list(found.values())

    def _all_as_they_were(self, index: int, group: dict[str, Any]) -> _Work | None:
        """All parameters of a group, if nothing has changed since they last took a step together; else None.

        Many small parameters are the rule, and questions to all at once take a third of the time of questions to each.
        """
        params, place = group["params"], (index, 0)
        rule, known = self._seen.get(place, ("", None))
        if known is None or rule != group["rule"] or group["capturable"]:
            return None
        grads = list(map(_GRAD, params))
        if len(self.state) == len(params) and all(map(operator.is_, self.state, params)):
            states = list(self.state.values())
        else:
            states = [self.state[param] for param in params]
        if not {*map(type, params), *map(type, grads)} <= PLAIN or {*map(type, states)} != {dict}:
            return None
        steps = {state.get("step") for state in states}
        try:
            holds = {*map(type, steps)} == {int} and len(steps) == 1
            holds = holds and known.still_holds(params, grads, states, memory_keys(rule))
        except (KeyError, TypeError, RuntimeError):  # a state is missing or no tensor with elements
            return None
        if not holds or 0 in known.grads:
            return None
        return _Work(place, group, list(range(len(params))), list(params), grads, states, seen=known)

    def _begin(self, group: dict[str, Any], position: int) -> dict[str, Any]:
        """Create a parameter's state."""
        check_parameter(group, position)
        param, capturable = group["params"][position], group["capturable"]
        check_not_captured(param.device)
        step = torch.zeros((), dtype=torch.float64, device=param.device) if capturable else 0
        memory = new_memory(program_of(group["rule"]), param, group["state_dtype"], capturable=capturable)
        state = self.state[param] = {"step": step, **memory}
        if capturable:
            self._together[param] = None  # with all that begin at this step
        return state

    def _look(self, work: _Work) -> None:
        """Read what the step needs to know of its tensors; where that is new, check it before anything moves."""
        if work.seen is not None:
            return
        rule = work.group["rule"]
        seen = None
        if {*map(type, work.params), *map(type, work.grads)} <= PLAIN:
            with suppress(KeyError, TypeError, RuntimeError):  # a state is missing or none: the check says which
                seen = look(work.params, work.grads, work.states, memory_keys(rule))
        known_rule, known = self._seen.pop(work.place, (None, None))
        if seen is None or known_rule != rule or not seen.fits_like(known):
            kinds = memory_kinds(program_of(rule))
            for position, param, grad, state in zip(work.positions, work.params, work.grads, work.states, strict=True):
                check_parameter(work.group, position)
                check_fit(parameter_name(work.group, position), param, grad, state, kinds)
        if seen is not None:
            self._seen[work.place] = (rule, seen)
            work.seen = seen

    def _regroup(self) -> None:
        """Find out which parameters have taken the same number of steps, where that is not known on the host."""
        states = [(key, state) for key, state in self.state.items() if isinstance(key, Tensor)]  # others may add theirs
        counts = {param: state.get("step") for param, state in states}
        self._together = {param: float(step) for param, step in counts.items() if isinstance(step, Tensor)}

    def _advance(self, work: _Work) -> None:
        group, t = work.group, work.states[0]["step"] + 1
        settings = Settings(
            t,
            group["lr"],
            float(group["weight_decay"]),
            bool(group["maximize"]),
            _noise(work, t),
            self._horizon(work, t),
        )
        cohort = Cohort(work.params, work.grads, work.states)
        unmoved = [param.clone() for param in work.params] if _nothing_moves(group) else []
        if {*map(type, work.params)} <= PLAIN:
            self._run(work, cohort, settings, work.seen)
        else:
            with on_shards(cohort) as local:
                self._run(work, local, settings)
        for param, before in zip(work.params, unmoved, strict=False):
            param.copy_(before)
        if isinstance(t, Tensor):
            torch._foreach_add_([state["step"] for state in work.states], 1)
            self._together.update(dict.fromkeys(work.params, object()))
        else:
            for state in work.states:
                state["step"] = t

    def _horizon(self, work: _Work, t: int | Tensor) -> int | None:
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

    def _run(self, work: _Work, cohort: Cohort, settings: Settings, seen: Look | None = None) -> None:
        group, device = work.group, cohort.params[0].device
        backend = backend_of(group)
        if not group["capturable"]:
            check_not_captured(device)
        compiled_on = ("cuda",) if group["capturable"] else ("cpu", "cuda")
        if backend == "compiled" or (backend is None and device.type in compiled_on):
            try:
                return self._compiled.step(work.place, group["rule"], cohort, settings, seen)
            except NativeUnavailable as reason:
                if backend == "compiled":
                    raise OptionError(f'backend="compiled" cannot be used: {reason}; take backend=None') from None
                _warn_once(f"rules run as torch operations, not compiled: {reason}")
        program = program_of(group["rule"])
        BACKENDS[backend or "eager"](program, cohort.slots(program), settings)


@dataclass
class _Work:
    """Parameters that take the same step: their group, and a place that stands for them among the optimizer's."""

    place: tuple[int, int]
    group: Mapping[str, Any]
    positions: list[int] = field(default_factory=list)
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    begun: list[Tensor] = field(default_factory=list)
    seen: Look | None = None


def _known_rate(group: Mapping[str, Any]) -> float | None:
    """A group's learning rate, unless it may be one that a captured step reads: that is not to be waited for."""
    lr = group["lr"]
    if not isinstance(lr, Tensor):
        return float(lr)
    captured = group["capturable"] and lr.device == group["params"][0].device
    return float(lr) if lr.is_cpu and not captured else None


def _nothing_moves(group: Mapping[str, Any]) -> bool:
    """Whether the learning rate is zero: then parameters stay as they are, even where an update is NaN."""
    return _known_rate(group) == 0


def _only_begins(groups: Sequence[Mapping[str, Any]], works: Sequence[_Work]) -> bool:
    """Whether a step without any state before it only creates states, which then stay as they begin, at step 0.

    torch.distributed.checkpoint creates states by a step with zero gradients and learning rates of zero, perhaps after
    the model has been loaded. Taken for a step, it would set the clock, and many a rule divides zero by zero there.
    """
    return all(map(_nothing_moves, groups)) and all(map(is_zero, chain(*[work.grads for work in works])))


def _noise(work: _Work, t: int | Tensor) -> Noise | None:
    if work.group["state_dtype"] is not torch.bfloat16:
        return None
    index, place = work.place
    whole = t.to(torch.int64) if isinstance(t, Tensor) else t
    return Noise((whole << 32) + (index << 16) + place)


@lru_cache(maxsize=16)
def _warn_once(text: str) -> None:
    _warn(text)


def _warn(text: str) -> None:
    """Warn, as the training script's line that took the step: torch wraps steps in a varying number of functions."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("closedform", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
