"""Which known optimizer a recording is nearest to, and what differs.

Every rule of the library is run over the recorded gradients, its constants refitted on half of the episodes, and judged
on the other half. What is said of the nearest one is made from numbers alone: *exact* is 1 - R^2 below 1e-6, *close* an
R^2 of 0.9; below that, a recording is unlike any. To a close one, single additions are tried: each is told only if it
explains a tenth of what was left, and does so in nearly all of ten parts of the held-out coordinates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_seed
from closedform.analysis.nearest._refit import Cells, Refit, answers
from closedform.errors import OptionError
from closedform.learned_optimizers import Role, SymbolicOptimizer, constant_roles
from closedform.rules import Rule, library_names, load_rule
from closedform.trajectories import Trajectories

EXACT, CLOSE = 1e-6, 0.9
"""1 - R^2 below which a rule is exact; R^2 from which it is close."""
_HOPEFUL = 0.5
"""R^2 from which additions are tried."""
_ROUNDING = 1e-11
"""1 - R^2 that rounding of a recording in single precision makes, and more."""
LEAST_CELLS = 200
FITTED, JUDGED, SCREENED = 48, 192, 24
"""Coordinates that constants are fitted on, that are judged, that are screened."""
FIT_STEPS, SCREEN_STEPS, JUDGE_STEPS = 160, 80, 400
REFITTED = 5
"""Rules of the screen's best that are refitted."""
_PARTS, _MOST = 10, 9
_GAIN = 0.1


@dataclass(frozen=True)
class Addition:
    """What a rule lacks, if anything.

    Attributes:
        what: In words.
        r2: Held-out R^2 with it.
    """

    what: str
    r2: float


@dataclass(frozen=True)
class Match:
    """A known rule beside the recording.

    Attributes:
        name: The library's name.
        rule: With constants and learning rate refitted.
        r2: On held-out episodes.
        cosine: Between its updates and the recorded ones.
        magnitude: Root mean square of its updates over that of the recorded ones.
        complexity, state_cost: Nodes, and buffers a parameter.
        additions: What would explain more, one by one.
    """

    name: str
    rule: Rule
    r2: float
    cosine: float
    magnitude: float
    complexity: int
    state_cost: int
    additions: tuple[Addition, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether it is the recorded optimizer, as far as can be seen."""
        return 1 - self.r2 < EXACT


@dataclass(frozen=True)
class Nearest:
    """Known rules by how much of a recording they explain.

    Attributes:
        verdict: ``exact``, ``close``, ``unlike`` any, or ``none``: too little evidence.
        sentence: The same in words.
        matches: The refitted rules, best first.
        left_out: Rules that could not be tried, and why.
        cells: Recorded updates that were judged.
        seconds: Time taken.
    """

    verdict: str
    sentence: str
    matches: tuple[Match, ...]
    left_out: Mapping[str, str]
    cells: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [{**asdict(match), "rule": match.rule.to_dict()} for match in self.matches]
        return {**asdict(self), "matches": rows}


def nearest(recording: Trajectories, rules: Sequence[Rule | str | Path] | None = None, *, seed: int = 0) -> Nearest:
    """Find the known rules that come nearest to a recorded optimizer.

    Args:
        recording: Whole episodes are read; its rows are not.
        rules: Rules to compare with; None: the library.
        seed: Draws coordinates.

    Raises:
        OptionError: no rule can be run over a recording.
        RuleError, UnknownNameError: a rule cannot be loaded.
    """
    check_seed("seed", seed)
    begin = time.monotonic()
    tried, left_out = _eligible([load_rule(rule) for rule in (library_names() if rules is None else rules)])
    if not tried:
        raise OptionError("none of the rules can be run over single coordinates: give others")
    halves = _halves(recording, seed)
    if halves is None:
        told = "too little evidence: fewer than 200 finite updates that change; record more"
        return Nearest("none", told, (), left_out, 0, time.monotonic() - begin)
    found = _Search(*halves).matches(tried)
    verdict, sentence = _verdict(found)
    return Nearest(verdict, sentence, tuple(found), left_out, halves[1].updates.numel(), time.monotonic() - begin)


def _eligible(rules: Sequence[Rule]) -> tuple[list[Rule], dict[str, str]]:
    found, left_out = [], {}
    for rule in rules:
        if not SymbolicOptimizer(rule).coordinatewise:
            left_out[rule.name] = "looks at whole tensors, of which a recording holds single coordinates"
        else:
            found.append(rule)
    return found, left_out


def _halves(recording: Trajectories, seed: int) -> tuple[Cells, Cells] | None:
    """What constants are fitted on and what is held out: episodes of either; of a single one, coordinates."""
    values = [getattr(recording, name).to(torch.float64) for name in ("gradients", "weights", "episode_updates")]
    episodes, steps, count = values[0].shape
    whole = torch.stack([torch.isfinite(v).all(1) for v in values]).all(0) & (values[2] != 0).any(1)  # [E, C]
    if episodes > 1:
        first = torch.arange(episodes)[:, None].expand(-1, count) % 2 == 0
    else:
        first = torch.arange(count).expand(episodes, -1) % 2 == 0
    generator = torch.Generator().manual_seed(seed)
    halves = []
    for side, most in ((first, FITTED), (~first, JUDGED)):
        chosen = torch.nonzero(whole & side)
        chosen = chosen[torch.randperm(len(chosen), generator=generator)[:most]]
        cells = [v[chosen[:, 0], :JUDGE_STEPS, chosen[:, 1]].T.contiguous() for v in values]
        halves.append(Cells(cells[0], cells[1], cells[2], steps))
    fine = all(half.updates.numel() >= LEAST_CELLS // 2 and _changes(half.updates) for half in halves)
    return (halves[0], halves[1]) if fine else None


def _changes(updates: Tensor) -> bool:
    return float(updates.std()) > 1e-9 * float(updates.abs().max())


class _Search:
    """The refitting of rules on one half, and the judging on the other."""

    def __init__(self, fit: Cells, held: Cells) -> None:
        self.fit = fit.part(torch.arange(fit.updates.shape[1]), FIT_STEPS)
        self.screen = fit.part(torch.arange(min(SCREENED, fit.updates.shape[1])), SCREEN_STEPS)
        self.held = held

    def matches(self, rules: Sequence[Rule]) -> list[Match]:
        """Rules refitted, best first; of equals the simplest."""
        screened = []
        for rule in rules:
            refit = Refit(rule)
            starts = refit.starts()
            errors = torch.nan_to_num(refit.errors(starts, self.screen)[0], nan=torch.inf)
            screened.append((float(errors.min()), starts[int(errors.argmin())], refit))
        screened.sort(key=lambda entry: entry[0])
        found = [self.match(refit, start) for _, start, refit in screened[:REFITTED]]
        if any(match.exact for match in found):  # one that is simpler may be as exact, once refitted
            least = min((match.state_cost, match.complexity) for match in found if match.exact)
            simpler = [e for e in screened[REFITTED:] if (e[2].rule.state_cost, e[2].rule.complexity) < least]
            found += [self.match(refit, start) for error, start, refit in simpler if error < 0.9]
        level = max(_ROUNDING, 10 * min(1 - match.r2 for match in found))
        return sorted(found, key=lambda match: _rank(match, level))

    def match(self, refit: Refit, start: Tensor) -> Match:
        rough = refit.fitted(start, self.screen, rounds=6)[0]
        point, factor = refit.fitted(rough, self.fit)
        rule = refit.made(point, factor)
        best = factor * refit.predicted(point[None], self.held)[0]
        agreed, given = _agreement(best, self.held.updates), answers(rule, self.held)
        r2, cosine, magnitude = _agreement(given, self.held.updates)
        if refit.jumps:  # a range of constants fits alike: the shortest numbers of it
            shorter = (refit.made(point, factor, room=room) for room in (0.03, 0.01, 0.003))
            alike = [r for r in shorter if _agreement(answers(r, self.fit), self.fit.updates)[0] >= agreed[0]]
            rule, given = (alike[0], answers(alike[0], self.held)) if alike else (rule, given)
            r2, cosine, magnitude = _agreement(given, self.held.updates)
        elif 1 - r2 > 2 * (1 - agreed[0]) + EXACT / 10:  # digits that were cut did count
            rule, given = refit.made(point, factor, room=0.0), best
            r2, cosine, magnitude = agreed
        match = Match(rule.name, rule, r2, cosine, magnitude, rule.complexity, rule.state_cost)
        if match.exact or r2 < _HOPEFUL:
            return match
        return replace(match, additions=_additions(given, self.held, r2))


def _rank(match: Match, level: float) -> tuple[float, int, int]:
    """Error first; errors below a level are alike, and the simplest comes first."""
    return (0.0 if 1 - match.r2 <= level and match.exact else 1 - match.r2, match.state_cost, match.complexity)


def _agreement(predicted: Tensor, updates: Tensor) -> tuple[float, float, float]:
    """R^2, cosine, and ratio of sizes."""
    left = (updates - predicted).square().sum() / (updates - updates.mean()).square().sum()
    sizes = float(predicted.norm()), float(updates.norm())
    cosine = float((predicted * updates).sum()) / max(sizes[0] * sizes[1], 1e-300)
    return 1 - float(torch.nan_to_num(left, nan=torch.inf)), cosine, sizes[0] / sizes[1]


def _additions(predicted: Tensor, held: Cells, r2: float) -> tuple[Addition, ...]:
    """Single additions that explain more, fitted on one half of the held-out coordinates and judged on the other."""
    deviation = float(predicted.std())
    tried: dict[str, Tensor] = {}
    for size in (0.5, 1, 1.5, 2, 3, 4):
        tried[f"clipping at {size:g} deviations of its update"] = (
            torch.tanh(predicted / (size * deviation)) * size * deviation
        )[None]
    tried["a term in the parameter (weight decay)"] = torch.stack([predicted, held.weights])
    tried["a term in the present gradient"] = torch.stack([predicted, held.gradients])
    tried["a schedule over the episode"] = _envelope(predicted)
    found = []
    for what, terms in tried.items():
        fitted = _fit_on_half(terms, held.updates)
        after = [
            _agreement(f, u)[0]
            for f, u in zip(fitted.chunk(_PARTS, 1), _second(held.updates).chunk(_PARTS, 1), strict=True)
        ]
        plain = _second(predicted).chunk(_PARTS, 1)
        before = [_agreement(f, u)[0] for f, u in zip(plain, _second(held.updates).chunk(_PARTS, 1), strict=True)]
        gained = _agreement(fitted, _second(held.updates))[0]
        base = _agreement(_second(predicted), _second(held.updates))[0]
        better = sum(a > b for a, b in zip(after, before, strict=True))
        if gained - base > _GAIN * (1 - base) and better >= _MOST * len(after) / _PARTS:
            found.append(Addition(what, r2 + gained - base))
    found.sort(key=lambda entry: -entry.r2)
    clipped = [entry for entry in found if entry.what.startswith("clipping")]
    return tuple(entry for entry in found if entry not in clipped[1:])


def _envelope(predicted: Tensor) -> Tensor:
    """The update in each tenth of the episode, apart: [10, T, N]."""
    steps = len(predicted)
    tenth = torch.arange(steps) * 10 // steps
    return torch.stack([predicted * (tenth == k)[:, None] for k in range(10)])


def _fit_on_half(terms: Tensor, updates: Tensor) -> Tensor:
    """The best sum of terms, [K, T, N]: fitted on every second coordinate, given at the others."""
    half = slice(0, None, 2)
    matrix, target = terms[:, :, half].flatten(1), updates[:, half].flatten()
    normal = matrix @ matrix.T
    weights = torch.linalg.lstsq(normal, (matrix @ target)[:, None], driver="gelsd").solution[:, 0]
    return torch.einsum("k,ktn->tn", weights, terms[:, :, 1::2])


def _second(values: Tensor) -> Tensor:
    return values[:, 1::2]


def _verdict(found: Sequence[Match]) -> tuple[str, str]:
    best = found[0]
    if best.exact:
        level = max(_ROUNDING, 10 * (1 - best.r2))
        same = [match.name for match in found[1:] if 1 - match.r2 <= level]
        also = f"; {', '.join(same)} with the right constants do the same" if same else ""
        error = math.sqrt(max(1 - best.r2, 1e-32))
        return "exact", f"exact: {described(best.rule)}; differs by {error:.1g} of the updates' size{also}"
    share = f"{math.floor(100 * best.r2)} %"
    if max([best.r2, *(addition.r2 for addition in best.additions)]) >= CLOSE:
        plus = "".join(f", plus {addition.what} ({addition.r2:.3f})" for addition in best.additions[:2])
        return "close", f"{share} {described(best.rule)}{plus}"
    explained = f"explains {share} of the updates" if best.r2 > 0 else "explains nothing of the updates"
    return "unlike", f"unlike any known optimizer: the nearest, {described(best.rule)}, {explained}"


def described(rule: Rule) -> str:
    """A rule in words: its name, its constants, and how many steps its memories are."""
    roles = constant_roles(rule.program.live)
    told = [f"lr {rule.lr:g}"]
    for name, role in roles.items():
        value = rule.constants[name]
        if role is Role.DECAY:
            memory = 1 / (1 - value) if value < 1 else math.inf
            told.append(f"{name} {value:g} (a memory of {f'{memory:.3g}' if memory < 1e5 else 'over 100,000'} steps)")
        elif role is not Role.FLOOR and abs(value) > 1e-5:
            told.append(f"{name} {value:g}")
    return f"{rule.name} with {', '.join(told)}"
