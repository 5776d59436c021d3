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
from closedform.analysis.portrait._quadratics import Quadratics, quadratics
from closedform.analysis.portrait._settled import Settled, in_words, settled
from closedform.analysis.portrait._spectrum import Spectrum, spectrum_of
from closedform.errors import OptionError
from closedform.learned_optimizers import LearnedOptimizer
from closedform.rules import Rule
from closedform.trajectories import Trajectories


@dataclass(frozen=True)
class Portrait:
    """What an optimizer does, seen from several sides. Lengths are steps; gradients are in units of their deviation.

    Attributes:
        optimizer: Its name.
        unit: The gradients' deviation.
        answers: To made-up gradients.
        settled: At rest under constant gradients; None for one that looks at whole tensors, or cannot be held still.
        spectrum: As a filter; None if it is flat almost everywhere.
        quadratics: On quadratics; of linear rules.
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
        if self.settled is not None and self.settled.time_scales:
            told.append(f"its memory {in_words(self.settled.time_scales[:4])}")
        elif self.settled is not None:
            told.append("it has no memory")
        if self.spectrum is not None:
            told.append(f"against noise it averages over {self.spectrum.averaging:.3g} gradients")
        if self.settled is not None and math.isfinite(self.settled.adaptation):
            told.append(
                f"its rate goes as |g|^{_plain(self.settled.adaptation)}, its step as |g|^{_plain(self.settled.power)}"
            )
        if math.isfinite(seen.saturation):
            told.append(f"it saturates at {seen.saturation:.2g} deviations of the gradient")
        if seen.coasting:
            half = "100 or more" if math.isinf(seen.half_life) else f"{seen.half_life:.0f}"
            told.append(f"without gradients, its step is halved within {half} steps")
        if self.quadratics is not None:
            q = self.quadratics
            told.append(f"on quadratics it is stable up to lr x curvature = {q.limit:.4g}")
            told.append(
                f"over curvatures from 1 to {q.kappa:g} it shrinks the error to {q.best:.4f} a step at best (gradient "
                f"descent {q.gradient_descent:.4f}, heavy ball {q.heavy_ball:.4f})"
            )
        reads = [
            what
            for what, so in (("the parameters", seen.reads_weights), ("other coordinates", seen.reads_others))
            if so
        ]
        told.append(f"besides gradients it reads {' and '.join(reads) or 'nothing'}")
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
    found, notes = answers(learned, unit, samples, seed), []
    if not all(map(math.isfinite, found.update)):
        raise OptionError(
            f"{learned.name} gives updates that are not finite for normal gradients: there is no portrait"
        )
    rest = None
    if not learned.coordinatewise:
        notes.append("no fixed points: it looks at whole tensors")
    elif learned.opaque:
        notes.append("no fixed points: its state cannot be held")
    else:
        rest = settled(learned, unit)
        if not rest.at_rest:
            notes.append("comes to no rest under a constant gradient: its time scales are those on the way")
    impulse = mean_response(learned, lags=lags, coordinates=64, seed=seed, unit=unit)
    spectrum = spectrum_of(impulse) if any(impulse) and all(map(math.isfinite, impulse)) else None
    if spectrum is None:
        notes.append("flat almost everywhere: no impulse response by derivatives")
    return Portrait(learned.name, unit, found, rest, spectrum, quadratics(rule) if rule else None, tuple(notes))


def _plain(power: float) -> str:
    return f"{power + 0.0:.2g}" if abs(power) > 0.005 else "0"


def _unit(recording: Trajectories) -> float:
    values = recording.gradients.to(torch.float64)
    found = float(values[torch.isfinite(values)].std(correction=0)) if bool(torch.isfinite(values).any()) else 0.0
    return found if found > 0 else 1.0
