"""The work of a step: which parameters take it together, and whether their tensors are as they should be.

All works of a step are gathered and looked at before any is done, so that a step that is refused changes nothing.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor

from closedform.lang import memory_kinds
from closedform.optim._backends import new_memory
from closedform.optim._compiled import PLAIN
from closedform.optim._groups import (
    check_not_captured,
    check_parameter,
    parameter_name,
    plain_options,
    sparse_refusal,
)
from closedform.optim._noise import Noise
from closedform.optim._rules import memory_keys, program_of
from closedform.optim._shards import is_zero
from closedform.optim._surgery import Look, check_count, check_fit
from closedform.optim._surgery import look as read_look

_GRAD = Tensor.grad.__get__  # type: ignore[union-attr]  # a descriptor of C
States: TypeAlias = defaultdict[Tensor, Any]
"""An optimizer's states of parameters."""


@dataclass
class Work:
    """Parameters that take the same step: their group, and a place that stands for them among the optimizer's."""

    place: tuple[int, int]
    group: Mapping[str, Any]
    positions: list[int] = field(default_factory=list)
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    begun: list[Tensor] = field(default_factory=list)
    seen: Look | None = None


class Works:
    """What an optimizer knows of the tensors that took its last step.

    Args:
        states: Its states; those that count their steps on the device say who has taken the same number of them.
        before: What was known before states were loaded.
    """

    def __init__(self, states: Mapping[Any, Any] | None = None, before: Works | None = None) -> None:
        self._seen: dict[Hashable, tuple[str, Look]] = {} if before is None else dict(before._seen)
        known = [(key, state) for key, state in (states or {}).items() if isinstance(key, Tensor)]  # others add theirs
        counts = {param: state.get("step") for param, state in known}
        self._together: dict[Tensor, Hashable] = {
            param: float(step) for param, step in counts.items() if isinstance(step, Tensor)
        }

    def gather(self, index: int, group: dict[str, Any], states: States) -> list[Work]:
        """Parameters of a group that have gradients, those together that take the same step; changes no parameter."""
        plain_options(group)  # a scheduler may have set a number of numpy's
        if (alike := self._all_as_they_were(index, group, states)) is not None:
            return [alike]
        capturable = group["capturable"]
        found: dict[Hashable, Work] = {}
        for position, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise sparse_refusal(group, position)
            begins = not states[param]
            state = self._begin(group, position, states) if begins else states[param]
            step = state["step"] if type(state) is dict and "step" in state else None
            if type(step) is not int:
                step = check_count(parameter_name(group, position), state)
                state["step"] = step = step if capturable else int(step)
            key = (self._together.get(param, param) if capturable else step, param.dtype, param.device)
            work = found.get(key)
            if work is None:
                work = found[key] = Work((index, len(found)), group)
            work.positions.append(position)
            if begins:
                work.begun.append(param)
            work.params.append(param)
            work.grads.append(grad)
            work.states.append(state)
        return list(found.values())

    def _all_as_they_were(self, index: int, group: dict[str, Any], states: States) -> Work | None:
        """All parameters of a group, if nothing has changed since they last took a step together; else None.

        Many small parameters are the rule, and questions to all at once take a third of the time of questions to each.
        """
        params, place = group["params"], (index, 0)
        rule, known = self._seen.get(place, ("", None))
        if known is None or rule != group["rule"] or group["capturable"]:
            return None
        grads = list(map(_GRAD, params))
        if len(states) == len(params) and all(map(operator.is_, states, params)):
            held = list(states.values())
        else:
            held = [states.get(param) for param in params]  # a frozen one has none, and asking makes none
        if not {*map(type, params), *map(type, grads)} <= PLAIN or {*map(type, held)} != {dict}:
            return None
        steps = {state.get("step") for state in held}
        try:
            holds = {*map(type, steps)} == {int} and len(steps) == 1
            holds = holds and known.still_holds(params, grads, held, memory_keys(rule))
        except (KeyError, TypeError, RuntimeError):  # a state is missing or no tensor with elements
            return None
        if not holds or 0 in known.grads:
            return None
        return Work(place, group, list(range(len(params))), list(params), grads, held, seen=known)

    def _begin(self, group: dict[str, Any], position: int, states: States) -> dict[str, Any]:
        """Create a parameter's state."""
        check_parameter(group, position)
        param, capturable = group["params"][position], group["capturable"]
        check_not_captured(param.device)
        step = torch.zeros((), dtype=torch.float64, device=param.device) if capturable else 0
        memory = new_memory(program_of(group["rule"]), param, group["state_dtype"], capturable=capturable)
        state = states[param] = {"step": step, **memory}
        if capturable:
            self._together[param] = None  # with all that begin at this step
        return state

    def look(self, work: Work) -> None:
        """Read what the step needs to know of its tensors; where that is new, check it before anything moves."""
        if work.seen is not None:
            return
        rule = work.group["rule"]
        seen = None
        if {*map(type, work.params), *map(type, work.grads)} <= PLAIN:
            with suppress(KeyError, TypeError, RuntimeError):  # a state is missing or none: the check says which
                seen = read_look(work.params, work.grads, work.states, memory_keys(rule))
        known_rule, known = self._seen.pop(work.place, (None, None))
        if seen is None or known_rule != rule or not seen.fits_like(known):
            kinds = memory_kinds(program_of(rule))
            for position, param, grad, state in zip(work.positions, work.params, work.grads, work.states, strict=True):
                check_parameter(work.group, position)
                check_fit(parameter_name(work.group, position), param, grad, state, kinds)
        if seen is not None:
            self._seen[work.place] = (rule, seen)
            work.seen = seen

    def moved(self, work: Work) -> None:
        """Parameters took a step that is counted on their device: from now on they belong together."""
        self._together.update(dict.fromkeys(work.params, object()))


def _known_rate(group: Mapping[str, Any]) -> float | None:
    """A group's learning rate, unless it may be one that a captured step reads: that is not to be waited for."""
    lr = group["lr"]
    if not isinstance(lr, Tensor):
        return float(lr)
    captured = group["capturable"] and lr.device == group["params"][0].device
    return float(lr) if lr.is_cpu and not captured else None


def nothing_moves(group: Mapping[str, Any]) -> bool:
    """Whether the learning rate is zero: then parameters stay as they are, even where an update is NaN."""
    return _known_rate(group) == 0


def only_begins(groups: Sequence[Mapping[str, Any]], works: Sequence[Work]) -> bool:
    """Whether a step without any state before it only creates states, which then stay as they begin, at step 0.

    torch.distributed.checkpoint creates states by a step with zero gradients and learning rates of zero, perhaps after
    the model has been loaded. Taken for a step, it would set the clock, and many a rule divides zero by zero there.
    """
    return all(map(nothing_moves, groups)) and all(map(is_zero, chain(*[work.grads for work in works])))


def noise_of(work: Work, t: int | Tensor) -> Noise | None:
    if work.group["state_dtype"] is not torch.bfloat16:
        return None
    index, place = work.place
    whole = t.to(torch.int64) if isinstance(t, Tensor) else t
    return Noise((whole << 32) + (index << 16) + place)
