"""Which known optimizer a recording is nearest to, and what differs.

Every rule of the library is run over the recorded gradients, its constants refitted on half of the episodes, and judged
on the other half. What is said of the nearest one is made from numbers alone: *exact* is 1 - R^2 below 1e-6, at all
times and for nearly every parameter; *close* an R^2 of 0.9; below that, a recording is unlike any. Of rules that cannot
be told apart on the held-out coordinates, the simplest is named. To a close one, single additions are tried: each is
told only if it explains a tenth of what was left, and helps in nearly all of ten parts of the held-out coordinates.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from closedform._options import check_seed
from closedform.analysis.nearest._judging import additions, agreement, left_over, no_worse, where_apart
from closedform.analysis.nearest._matches import CLOSE, EXACT, Match, Nearest
from closedform.analysis.nearest._refit import Cells, Refit, answers
from closedform.analysis.nearest._words import verdict
from closedform.errors import OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.rules import Rule, library_names, load_rule
from closedform.trajectories import Trajectories

_HOPEFUL = 0.5
"""R^2 from which additions are tried."""
_ROUNDING = 1e-11
"""1 - R^2 that rounding of a recording in single precision makes, and more."""
LEAST_CELLS = 200
FITTED, JUDGED, SCREENED = 48, 192, 24
"""Coordinates that constants are fitted on, that are judged, that are screened."""
FIT_STEPS, SCREEN_STEPS, JUDGE_STEPS = 160, 80, 2000
JUDGED_CELLS = 80_000
REFITTED = 5
"""Rules of the screen's best that are refitted."""


def nearest(
    recording: Trajectories, rules: Sequence[Rule | str | Path] | Rule | str | Path | None = None, *, seed: int = 0
) -> Nearest:
    """Find the known rules that come nearest to a recorded optimizer.

    Args:
        recording: Whole episodes are read; its rows are not.
        rules: Rules to compare with, or a single one; None: the library.
        seed: Draws coordinates.

    Raises:
        OptionError: no rule can be run over a recording.
        RuleError, UnknownNameError: a rule cannot be loaded.
    """
    check_seed("seed", seed)
    begin = time.monotonic()
    wanted = library_names() if rules is None else [rules] if isinstance(rules, (Rule, str, Path)) else rules
    tried, left_out = _eligible([load_rule(rule) for rule in wanted])
    if not tried:
        raise OptionError("none of the rules can be run over single coordinates: give others")
    halves = _halves(recording, seed)
    if halves is None:
        told = "too little evidence: fewer than 200 finite updates that change; record more"
        return Nearest("none", told, (), left_out, 0, time.monotonic() - begin)
    found, alike = _Search(*halves).matches(tried)
    said, sentence = verdict(found, alike, left_out, recording.gradients.shape[1])
    if said != "unlike" and _no_matrices(recording):
        sentence += "; no matrices were recorded, to which it may do something else"
    return Nearest(said, sentence, tuple(found), left_out, halves[1].updates.numel(), time.monotonic() - begin)


def _eligible(rules: Sequence[Rule]) -> tuple[list[Rule], dict[str, str]]:
    found, left_out = [], {}
    for rule in rules:
        if not SymbolicOptimizer(rule).coordinatewise:
            left_out[rule.name] = "looks at whole tensors, of which a recording holds single coordinates"
        else:
            found.append(rule)
    return found, left_out


def _halves(recording: Trajectories, seed: int) -> tuple[Cells, Cells] | None:
    """What constants are fitted on and what is held out: of each task every second episode; of one, coordinates."""
    values = [getattr(recording, name).to(torch.float64) for name in ("gradients", "weights", "episode_updates")]
    steps = values[0].shape[1]
    whole = torch.stack([torch.isfinite(v).all(1) for v in values]).all(0) & (values[2] != 0).any(1)  # [E, C]
    first, scale = _first(recording), _scales(recording, values[2], whole)
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for side, most in ((first, FITTED), (~first, min(JUDGED, max(16, JUDGED_CELLS // max(steps, 1))))):
        chosen = torch.nonzero(whole & side)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)[:most]]
        cells = [v[chosen[:, 0], :JUDGE_STEPS, chosen[:, 1]].T.contiguous() for v in values]
        scales = scale[chosen[:, 0]]
        halves.append(Cells(cells[0], cells[1], cells[2] * scales, steps, scales))
    fine = all(half.updates.numel() >= LEAST_CELLS // 2 and _changes(half.updates) for half in halves)
    return (halves[0], halves[1]) if fine else None


def _first(recording: Trajectories) -> Tensor:
    """Whether constants are fitted there, [E, C]."""
    episodes, _, count = recording.gradients.shape
    if episodes == 1:
        return torch.arange(count).expand(episodes, -1) % 2 == 0
    place = {number: index for index, number in enumerate(chain.from_iterable(recording.episodes_by_task))}
    even = torch.tensor([place[number] % 2 == 0 for number in recording.episodes.tolist()], dtype=torch.bool)
    return even[:, None].expand(-1, count)


def _scales(recording: Trajectories, updates: Tensor, whole: Tensor) -> Tensor:
    """What updates are multiplied by, [E]: of several tasks, one over the size that updates have on each."""
    scale = torch.ones(len(updates), dtype=torch.float64)
    tasks = recording.episodes_by_task
    for numbers in tasks if len(tasks) > 1 else ():
        rows = torch.isin(recording.episodes, torch.tensor(numbers))
        size = updates[rows].mT[whole[rows]].square().mean().sqrt()
        scale[rows] = 1 / size if size > 0 else 1.0  # no updates that count: none is chosen
    return scale


def _no_matrices(recording: Trajectories) -> bool:
    """Whether all recorded tensors are known to be vectors, on which Muon, say, is Nesterov's momentum."""
    shapes = [entry.get("shape") for entry in recording.provenance.get("layers", ())]
    return bool(shapes) and all(shape is not None and len(shape) < 2 for shape in shapes)


def _changes(updates: Tensor) -> bool:
    return float(updates.std()) > 1e-9 * float(updates.abs().max())


class _Search:
    """The refitting of rules on one half, and the judging on the other."""

    def __init__(self, fit: Cells, held: Cells) -> None:
        self.fit = fit.part(torch.arange(fit.updates.shape[1]), FIT_STEPS)
        self.screen = fit.part(torch.arange(min(SCREENED, fit.updates.shape[1])), SCREEN_STEPS)
        self.held = held

    def matches(self, rules: Sequence[Rule]) -> tuple[list[Match], list[str]]:
        """Rules refitted, best first, and the names of those that cannot be told apart from the first."""
        screened = []
        for rule in rules:
            refit = Refit(rule)
            starts = refit.starts()
            errors = torch.nan_to_num(refit.errors(starts, self.screen)[0], nan=torch.inf)
            screened.append((float(errors.min()), starts[int(errors.argmin())], refit))
        screened.sort(key=lambda entry: entry[0])
        found = [self.match(refit, start) for _, start, refit in screened[:REFITTED]]
        near = [_cost(match) for match, _ in found if match.r2 >= CLOSE]
        if near:  # one that is simpler may be as good, once refitted
            simpler = [entry for entry in screened[REFITTED:] if _cost(entry[2].rule) < min(near)]
            found += [self.match(refit, start) for error, start, refit in simpler if error < 0.9]
        return _ranked(found)

    def match(self, refit: Refit, start: Tensor) -> tuple[Match, Tensor]:
        """A rule refitted and judged, and what it leaves over at each held-out coordinate."""
        rough = refit.fitted(start, self.screen, rounds=6)[0]
        rule, given = self.made(refit, *refit.fitted(rough, self.fit))
        r2, cosine, magnitude = agreement(given, self.held.updates)
        apart = where_apart(given, self.held) if 1 - r2 < EXACT else ""
        match = Match(rule.name, rule, r2, cosine, magnitude, rule.complexity, rule.state_cost, apart=apart)
        if not match.exact and r2 >= _HOPEFUL:
            match = replace(match, additions=additions(given, self.held, r2))
        return match, left_over(given, self.held.updates)

    def made(self, refit: Refit, point: Tensor, factor: float) -> tuple[Rule, Tensor]:
        """The rule with constants of few digits where those do as well, and its held-out updates."""
        rule, best = refit.made(point, factor), factor * refit.predicted(point[None], self.held)[0]
        given = answers(rule, self.held)
        if refit.jumps:  # a range of constants fits alike: the shortest numbers of it
            shorter = (refit.made(point, factor, room=room) for room in (0.2, 0.1, 0.05, 0.03, 0.01, 0.003))
            most = 1.01 * (1 - agreement(answers(refit.made(point, factor, room=0.0), self.fit), self.fit.updates)[0])
            most += _ROUNDING
            alike = (r for r in shorter if 1 - agreement(answers(r, self.fit), self.fit.updates)[0] <= most)
            short = next(alike, None)
            return (rule, given) if short is None else (short, answers(short, self.held))
        agreed = agreement(best, self.held.updates)[0]
        if 1 - agreement(given, self.held.updates)[0] > 2 * (1 - agreed) + EXACT / 10:  # digits that were cut did count
            return refit.made(point, factor, room=0.0), best
        return rule, given


def _ranked(found: Sequence[tuple[Match, Tensor]]) -> tuple[list[Match], list[str]]:
    """By error; but those that cannot be told apart from the best come first, the simplest of them before all."""
    left, best = min(((float(over.sum()), over) for _, over in found), key=lambda entry: entry[0])
    level = max(_ROUNDING, 10 * left) if left < EXACT / 10 else 0.0
    alike = [(1 - match.r2 <= level) or no_worse(over, best) for match, over in found]
    order = sorted(
        zip(alike, (match for match, _ in found), strict=True),
        key=lambda entry: (not entry[0], *(_cost(entry[1]) if entry[0] else (1 - entry[1].r2,))),
    )
    return [match for _, match in order], [match.name for same, match in order[1:] if same]


def _cost(entry: Match | Rule) -> tuple[int, int]:
    return entry.state_cost, entry.complexity
