"""The forms in which an equation of the hall of fame may be handed over: as distilled, with a schedule, tuned.

All of them are odd in the gradient (see ``_odd.py``). What trains for a known number of steps should come to rest at
their end, and an equation that imitates single updates seldom does so by itself: with a schedule it has the factor

    min(1, progress/rise) (1 - progress)^fall

a linear warm-up over a share of the steps, and a power of what is left. Both are constants, tuned with the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from closedform.distillation import Entry, HallOfFame
from closedform.errors import DistillationError
from closedform.lang import Program, apply, parse
from closedform.pipeline._odd import odd_rule
from closedform.rules import Rule

DISTILLED, SCHEDULED, TUNED = "distilled rule", "scheduled rule", "tuned rule"
"""What a form is called in tables."""
FORM_FILES = {DISTILLED: "rule_distilled.json", SCHEDULED: "rule_scheduled.json", TUNED: "rule_tuned.json"}
START = {"rise": 0.05, "fall": 1.0}
"""Where the schedule's constants start."""


@dataclass(frozen=True)
class Candidate:
    """An equation.

    Attributes:
        entry: Its place in the hall of fame.
        distilled: The odd part of its rule.
    """

    entry: Entry
    distilled: Rule

    @property
    def scheduled(self) -> Rule:
        """The same with a schedule: what tuning starts from."""
        return scheduled(self.distilled)


def candidates(hall: HallOfFame, sizes: Sequence[int]) -> list[Candidate]:
    """The equations worth tuning: the one chosen by fidelity, and the most faithful of at most each size.

    Raises:
        DistillationError: no equation of the hall has an odd part.
    """
    odd = {entry.equation: rule for entry in hall.entries if (rule := odd_rule(entry.rule)) is not None}
    left = HallOfFame(tuple(entry for entry in hall.entries if entry.equation in odd), hall.provenance)
    if not left.entries:
        raise DistillationError(
            f"none of the {len(hall)} equations turns with the gradient; train the network for longer, or record more"
        )
    chosen = [left.choose()]
    for size in sizes:
        small = [entry for entry in left.entries if entry.complexity <= size]
        if small:
            chosen.append(min(small, key=lambda entry: (entry.error, entry.complexity)))
    return [Candidate(entry, odd[entry.equation]) for entry in {entry.equation: entry for entry in chosen}.values()]


def scheduled(rule: Rule) -> Rule:
    """The rule times a schedule of its progress."""
    program = rule.program
    taken = {*program.constants, *program.state, *program.where}
    names = {stem: next(name for name in _numbered(stem) if name not in taken) for stem in START}
    factor = parse("min(1, progress/{rise})*(1 - progress)**{fall}".format(**names))
    constants = {**program.constants, **{names[stem]: value for stem, value in START.items()}}
    update = apply("mul", program.outputs["update"], factor)
    return replace(rule, program=Program(constants, program.state, program.where, {"update": update}, program.init))


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 1
    while True:
        number += 1
        yield f"{stem}{number}"
