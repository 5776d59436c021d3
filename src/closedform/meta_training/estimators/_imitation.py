"""Imitation: the learned optimizer is taught to do what a rule would do in its place, as well as to lower the loss.

The learned optimizer runs the episode; the teacher sees the same gradients and parameters, and its updates u* are what
the student's u should have been. Over a window, and for each optimizee,

    relative error = mean((u - u*)^2) / mean(u*^2),

whose logarithm's gradient goes back through the student's graph with its inputs detached. The logarithm keeps windows
apart that are hard to weigh: where the teacher hardly moves any more, the relative error can be a thousand times that
of other windows, and its gradient would drown theirs. A teacher gives every step and every
coordinate a target, where the loss of an optimizee says little and late; and one that is good for whole episodes takes
the student past the short horizon that windows have. Later its share falls, so that the student can get better than it.

Source: Chen et al. 2020, Training Stronger Baselines for Learning to Optimize, section 3.2 (there off-policy, with
several teachers); on-policy as in Ross, Gordon & Bagnell 2011 (DAgger).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_share
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer, State, SymbolicOptimizer
from closedform.meta_training._objectives import Objective
from closedform.meta_training.estimators._base import Estimate, Estimator
from closedform.meta_training.estimators._bptt import TruncatedBPTT
from closedform.meta_training.estimators._window import (
    Subset,
    Window,
    check_coordinatewise,
    choose_subset,
    derivatives,
    run_window,
)
from closedform.rules import Rule
from closedform.unroll import AnyProblem, Carry, Step

_PREFIX = "teacher."
"""Entries of a carry's memory that are the teacher's state."""
_TINY = 1e-12
"""Relative error below which nothing is left to learn."""


@dataclass(frozen=True)
class Imitation(Estimator):
    """An estimator of which a share is imitation of a rule.

    With the share s, the meta-gradient is s * (that of the relative error's logarithm) + (1 - s) * (that of ``base``),
    each shortened to norm 1 first; the value reported is s * (relative error) + (1 - s) * (meta-loss). Both see the
    same batches. With s = 1 ``base`` is not run, with s = 0 nothing else is. A ``TruncatedBPTT`` with the same
    ``coordinates`` shares the window, which then is run once for both.

    Attributes:
        base: The estimator that imitation is added to; windows are as long as its own.
        teacher: The rule, with its own ``lr``.
        weight: s at meta-step 0, from 0 to 1.
        until: Meta-steps over which s falls to 0, in a straight line; None or 0: it stays.
        coordinates: Go back through that many random coordinates of each optimizee; None: through all.
    """

    base: Estimator
    teacher: Rule
    weight: float = 1.0
    until: int | None = None
    coordinates: int | None = None
    unroll: int = field(init=False, repr=False)
    name = "imitation"

    def __post_init__(self) -> None:
        check_share("weight", self.weight, zero=True, one=True)
        if self.until is not None:
            check_count("until", self.until, 0)
        if self.coordinates is not None:
            check_count("coordinates", self.coordinates)
        if self.base.particles:
            raise OptionError(f"imitation cannot be added to {self.base.name!r}, which runs perturbed optimizers alone")
        object.__setattr__(self, "unroll", self.base.unroll)

    def check(self, optimizer: LearnedOptimizer) -> None:
        self.base.check(optimizer)
        if self.coordinates is not None:
            check_coordinatewise(optimizer, "coordinates")

    def at(self, step: int) -> Estimator:
        share = self.weight * max(0.0, 1 - step / self.until) if self.until else self.weight
        return replace(self, base=self.base.at(step), weight=share, until=None) if share else self.base.at(step)

    def start(self, optimizer: LearnedOptimizer, carry: Carry) -> Carry:
        return self.base.start(optimizer, carry)

    def estimate(
        self, optimizer: LearnedOptimizer, problem: AnyProblem, carry: Carry, count: int, objective: Objective
    ) -> Estimate:
        if not self.weight:
            return self.base.estimate(optimizer, problem, carry, count, objective)
        alone, one_window = self.weight == 1, self.base == TruncatedBPTT(self.unroll, coordinates=self.coordinates)
        kept = carry if alone or one_window else replace(carry, generator=_copied(carry.generator))
        lesson = _Lesson(self.teacher, problem, carry, choose_subset(optimizer, carry, self.coordinates))
        window = run_window(optimizer, problem, kept, count, lesson.subset, lesson.watch)
        taught = lesson.estimate(optimizer, window, retain_graph=one_window and not alone)
        if alone:
            return taught
        if one_window:
            found = window.estimate(optimizer, carry.initial, objective)
        else:
            found = self.base.estimate(optimizer, problem, carry, count, objective)
        return _mixed(found, taught, self.weight)

    def adds(self, problem: AnyProblem, carry: Carry) -> State:
        return {
            _PREFIX + key: value for key, value in _begun(SymbolicOptimizer(self.teacher, ()), problem, carry).items()
        }

    def describe(self) -> dict[str, Any]:
        """Its options, with those of ``base``, and the teacher as a rule file has it."""
        options = {"weight": self.weight, "until": self.until, "coordinates": self.coordinates}
        return {"name": self.name, **options, "base": self.base.describe(), "teacher": self.teacher.to_json()}


class _Lesson:
    """What the teacher would have done, step by step.

    Args:
        teacher: The rule.
        problem: The problem.
        carry: Where the window starts; with its teacher's state, or an episode's first.
        subset: The coordinates that count; None: all.
    """

    def __init__(self, teacher: Rule, problem: AnyProblem, carry: Carry, subset: Subset | None) -> None:
        optimizer = SymbolicOptimizer(teacher, ())
        self._update = optimizer.bind()
        self.subset = subset
        state = {key.removeprefix(_PREFIX): value for key, value in _of_teacher(carry.memory).items()}
        self._state = state or _begun(optimizer, problem, carry)
        self._targets: list[Tensor] = []
        self._sizes: list[Tensor] = []

    @torch.no_grad()
    def watch(self, step: Step) -> None:
        """Note what the teacher does where the student took a step."""
        g, w = step.before.gradient, step.before.w
        update, self._state = self._update(g.reshape(-1), w.reshape(-1), self._state)
        update = update.reshape(w.shape)
        self._targets.append(update if self.subset is None else self.subset.of(update))
        self._sizes.append(update.square().mean(-1))

    def estimate(self, optimizer: LearnedOptimizer, window: Window, retain_graph: bool) -> Estimate:
        """The relative error of the window that it watched, with its gradients, and its own state in the carry."""
        with torch.enable_grad():
            error = self._relative_error(window.updates)
        gradients = _clipped(derivatives([error], optimizer, retain_graph=retain_graph))
        memory = {**window.carry.memory, **{_PREFIX + key: value for key, value in self._state.items()}}
        return Estimate(gradients, error.detach(), window.losses, replace(window.carry, memory=memory))

    def _relative_error(self, updates: Sequence[Tensor]) -> Tensor:
        """Of the student's updates, a scalar: the mean over optimizees. Where the teacher stands still, it is 0."""
        squares = (torch.stack(list(updates)) - torch.stack(self._targets)).square().mean(-1).mean(0)
        size = torch.stack(self._sizes).mean(0)
        return (squares / size.masked_fill(size == 0, math.inf)).mean()


def _begun(teacher: SymbolicOptimizer, problem: AnyProblem, carry: Carry) -> State:
    shapes = [*problem.flat.shapes.values()] * (carry.w.numel() // problem.task.size)
    return teacher.init_state(carry.w.reshape(-1), shapes, carry.total)


def _mixed(found: Estimate, taught: Estimate, share: float) -> Estimate:
    """What ``base`` found, with a share of imitation."""
    return Estimate(
        tuple(map(lambda own, other: torch.lerp(own, other, share), _clipped(found.gradients), taught.gradients)),
        torch.lerp(found.value.double(), taught.value.double(), share),
        found.losses,
        replace(found.carry, memory={**found.carry.memory, **_of_teacher(taught.carry.memory)}),
    )


def _of_teacher(memory: State) -> State:
    """The teacher's part."""
    return {key: value for key, value in memory.items() if key.startswith(_PREFIX)}


def _copied(generators: Any) -> Any:
    """Generators that will draw the same."""
    if isinstance(generators, tuple):
        return tuple(_copied(generator) for generator in generators)
    return torch.Generator().set_state(generators.get_state())


def _clipped(gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients shortened to norm 1 together, if they are longer."""
    norm = torch.linalg.vector_norm(torch.stack([gradient.double().norm() for gradient in gradients]))
    return tuple(gradient / norm.clamp(min=1.0).to(gradient) for gradient in gradients)
