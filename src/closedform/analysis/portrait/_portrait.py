"""The portrait: all of it in one place, for rules, networks and, as far as it can be seen from outside, any other."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from closedform._options import check_count, check_seed
from closedform.analysis._replay import in_double, rule_of
from closedform.analysis.perception import mean_response
from closedform.analysis.portrait._answers import Answers, answers
from closedform.analysis.portrait._quadratics import Quadratics, is_linear, quadratics
from closedform.analysis.portrait._settled import Settled, in_words, settled
from closedform.analysis.portrait._spectrum import Spectrum, spectrum_of
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.rules import Rule
from closedform.trajectories import Trajectories

_SURE = 0.25
"""Share past the last lag above which an average is told as a rough number."""
_LOPSIDED = 0.01


@dataclass(frozen=True)
class Portrait:
    """What an optimizer does, seen from several sides. Lengths are steps; gradients are in units of their deviation.

    Attributes:
        optimizer: Its name.
        unit: The gradients' deviation.
        answers: To made-up gradients.
        settled: At rest under constant gradients; None for one that looks at whole tensors, or cannot be held still.
        spectrum: As a filter; None if it is flat almost everywhere.
        quadratics: On quadratics; of linear rules that are stable somewhere.
        notes: What was left out, and why.
    """

    optimizer: str
    unit: float
    answers: Answers
    settled: Settled | None
    spectrum: Spectrum | None
    quadratics: Quadratics | None
    notes: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """The portrait in words; every number is a field's."""
        seen, told = self.answers, []
        if self.settled is not None:
            told += _at_rest(self.settled)
        if self.spectrum is not None and self.spectrum.tail < 1:
            about = "about " if self.spectrum.tail > _SURE else ""
            told.append(f"against noise it averages over {about}{self.spectrum.averaging:.3g} gradients")
        if math.isfinite(seen.saturation):
            told.append(f"it saturates at {seen.saturation:.2g} deviations of the gradient")
        if seen.coasting:
            told.append(f"without gradients, its step is {_halved(seen)}")
        if self.quadratics is not None:
            q = self.quadratics
            rate = "lr x curvature" if q.product else "lr, for a curvature of 1,"
            told.append(f"on quadratics it is stable up to {rate} = {q.limit:.4g}")
            told.append(
                f"over curvatures from 1 to {q.kappa:g} it shrinks the error to {q.best:.4f} a step at best (gradient "
                f"descent {q.gradient_descent:.4f}, heavy ball {q.heavy_ball:.4f})"
            )
        reads = [
            what
            for what, so in (("the parameters", seen.reads_weights), ("other coordinates", seen.reads_others))
            if so
        ]
        told.append(f"besides gradients and time it reads {' and '.join(reads) or 'nothing'}")
        return [*told, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def portrait(
    optimizer: Rule | LearnedOptimizer | str | Path,
    recording: Trajectories | None = None,
    *,
    lags: int = 128,
    samples: int = 256,
    seed: int = 0,
) -> Portrait:
    """Draw the portrait of an optimizer.

    Args:
        optimizer: A rule, a network, or a name.
        recording: Only the size of its gradients is read; None: 1.
        lags: Steps of the impulse response.
        samples: Coordinates that answers are averaged over; a multiple of 64.
        seed: Draws the gradients.

    Raises:
        OptionError: a count makes no sense, or the optimizer's updates are not finite.
        UnknownNameError, RuleError, CheckpointError: it cannot be loaded.
    """
    check_count("lags", lags, 2, 10_000)
    check_count("samples", samples, 64, 2**20)
    check_seed("seed", seed)
    if samples % 64:
        raise OptionError(f"samples must be a multiple of 64, not {samples}")
    learned = in_double(optimizer)
    rule = rule_of(learned)
    unit = 1.0 if recording is None else _unit(recording)
    found = answers(learned, unit, samples, seed)
    if not all(map(math.isfinite, found.update)):
        raise OptionError(
            f"{learned.name} gives updates that are not finite for normal gradients: there is no portrait"
        )
    rest, notes = None, _about(learned, found)
    if not learned.coordinatewise:
        notes.append("no fixed points: it looks at whole tensors")
    elif learned.opaque:
        notes.append("no fixed points: its state cannot be held")
    else:
        rest = settled(learned, unit)
        notes += _about_rest(rest)
    spectrum = _filter(learned, lags, seed, unit)
    if getattr(learned, "random", False):
        notes.append("no impulse response: its differences would be of its own draws")
    elif spectrum is None:
        notes.append("flat almost everywhere: no impulse response by derivatives")
    elif spectrum is not None and spectrum.tail == 1:
        notes.append(f"its impulse response does not fade within {lags} steps: drift and noise are of what was seen")
    parabola = quadratics(rule) if rule else None
    if parabola is None:
        linear = rule is not None and is_linear(rule)
        why = "it has no largest stable rate from 1e-6 to 1e6" if linear else "it is not linear"
        notes.append(f"no closed form on quadratics: {why}")
    return Portrait(learned.name, unit, found, rest, spectrum, parabola, tuple(notes))


def _filter(optimizer: LearnedOptimizer, lags: int, seed: int, unit: float) -> Spectrum | None:
    if getattr(optimizer, "random", False):
        return None
    impulse = mean_response(optimizer, lags=lags, coordinates=64, seed=seed, unit=unit)
    return spectrum_of(impulse) if any(impulse) and all(map(math.isfinite, impulse)) else None


def _about(optimizer: LearnedOptimizer, seen: Answers) -> list[str]:
    notes = []
    if getattr(optimizer, "random", False):
        notes.append("draws random numbers: the same ones in every run")
    bad = next((t for t, size in enumerate(seen.schedule, 1) if not math.isfinite(size)), None)
    if bad is not None:
        notes.append(f"its updates are not finite from step {bad} of an episode of {len(seen.schedule)}")
    if math.isnan(seen.rate):
        notes.append("its answer jumps where the present gradient changes sign: it has no rate there")
    return notes


def _about_rest(rest: Settled) -> list[str]:
    notes = []
    if rest.resting == 0:
        notes.append("no rest was found under a constant gradient: its time scales are those on the way")
    elif not rest.at_rest:
        notes.append(f"no rest was found under {1 - rest.resting:.0%} of the constant gradients that were tried")
    if not rest.stable:
        notes.append("does not stay at rest: a small push grows")
    return notes


def _at_rest(rest: Settled) -> list[str]:
    told = []
    if rest.time_scales:
        told.append(f"its memory {in_words(rest.time_scales[:4])}")
    else:
        ends = f"its memory ends within {rest.entries} step{'' if rest.entries == 1 else 's'}"
        told.append(ends if rest.entries else "it has no memory of gradients")
    if math.isfinite(rest.adaptation):
        told.append(f"its rate goes as |g|^{_plain(rest.adaptation)}")
    if math.isfinite(rest.power):
        told.append(f"its step goes as |g|^{_plain(rest.power)}")
    if rest.asymmetry > _LOPSIDED:
        told.append(f"its steps for g and -g differ by up to {rest.asymmetry:.0%}")
    return told


def _halved(seen: Answers) -> str:
    if math.isinf(seen.half_life):
        return f"not halved within {len(seen.coasting)} steps"
    return f"halved within {seen.half_life:.0f} step{'' if seen.half_life == 1 else 's'}"


def _plain(power: float) -> str:
    return f"{power + 0.0:.2g}" if abs(power) > 0.005 else "0"


def _unit(recording: Trajectories) -> float:
    values = recording.gradients.to(torch.float64)
    found = float(values[torch.isfinite(values)].std(correction=0)) if bool(torch.isfinite(values).any()) else 0.0
    return found if found > 0 else 1.0
