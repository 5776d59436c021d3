"""The back ends: ways to take a step, each one entry of ``BACKENDS``; all are held equal by lockstep tests.

A back end advances the parameters of a `StepRequest` in place. One that cannot raises `NativeUnavailable` before
anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from closedform.lang import Program
from closedform.optim._backends import Cohort, Settings, Slot, eager, reference
from closedform.optim._compiled import Compiled
from closedform.optim._rules import program_of
from closedform.optim._surgery import Look


@dataclass(frozen=True)
class StepRequest:
    """What is to be advanced by one step.

    Attributes:
        rule: The rule, as text.
        cohort: Parameters with their gradients and states.
        settings: All that is no tensor of a parameter.
        place: Stands for these parameters from step to step.
        kept: What was compiled for the optimizer.
        seen: What is known of the cohort's tensors; None if that is to be read anew.
    """

    rule: str
    cohort: Cohort
    settings: Settings
    place: Hashable
    kept: Compiled
    seen: Look | None = None


Backend: TypeAlias = Callable[[StepRequest], None]


def _compiled(step: StepRequest) -> None:
    step.kept.step(step.place, step.rule, step.cohort, step.settings, step.seen)


def _on_slots(advance: Callable[[Program, Sequence[Slot], Settings], None]) -> Backend:
    """What advances one parameter after the other, as a back end."""

    def run(step: StepRequest) -> None:
        program = program_of(step.rule)
        advance(program, step.cohort.slots(program), step.settings)

    return run


BACKENDS: dict[str, Backend] = {
    "compiled": _compiled,
    "eager": _on_slots(eager),
    "reference": _on_slots(reference),
}
