"""The temporal perception field: how far back an optimizer looks.

For an input x that an optimizer reads at every step,

    s_k = E|du_t/dx_{t-k}| * std(x),        TPF = sum_k (k + 1) s_k / sum_k s_k     steps,

the expectation over steps t and coordinates of a recorded trajectory, std(x) that of each coordinate, derivatives
through the optimizer's own state: 1 for gradient descent, 1/(1 - b) for momentum b (Zheng et al. 2022, section 4.1; the
definition is this project's).

Derivatives are exact, by back-propagation from an update to all that was read before it; where there are none to take
(an optimizer of somebody else's), central differences stand in. A sum that has not ended with the last lag is carried
on as the geometric series that its end looks like, and how much that added is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_count, check_seed
from closedform.analysis._replay import in_double, replayed, rule_of
from closedform.analysis.perception import _paths as paths
from closedform.analysis.perception._tape import Step, Tape, by_derivatives, by_perturbations, made_up, recorded
from closedform.errors import OptionError
from closedform.learned_optimizers import (
    LearnedOptimizer,
    RecurrentOptimizer,
    State,
    SymbolicOptimizer,
)
from closedform.rules import Rule
from closedform.trajectories import Trajectories

DERIVATIVE, PERTURBATION = "derivative", "perturbation"
PROBES = 6
"""Steps whose updates are looked at."""
FIRST_LAGS, MOST_LAGS, SETTLED = 64, 512, 0.1
"""Lags that are tried, and what may lie past the last one."""
_SIDE = 8
"""Of the square parameter of an optimizer that looks at whole tensors."""
_SMALL = 1e-4
"""Of the gradient's deviation: what is added to it for a difference."""
_DRAWS = 4
"""Runs of an optimizer that draws random numbers."""
_CONFIRMED = 6
"""Lags over which derivatives of somebody's optimizer are compared with differences."""
_OUTSIDE = 16
"""Coordinates of an optimizer that can be seen from outside alone."""
_LEVEL = 1e-9
"""Relative rise up to which the end of a curve is a level, which never fades."""
_UNSETTLED = 5
"""The first of so many parts of a recording is not looked back into: what a first step does is no habit."""
_SURE = 0.25
"""Share past the last lag above which a field is told as a rough number."""
_GONE = 1e-12
"""Sensitivity, as a share of the largest, that counts as none."""


@dataclass(frozen=True)
class PerceptionCurve:
    """How an update depends on one input's past.

    Attributes:
        input: ``"gradient"``; a network's feature; a rule's state, of which only its own view of the gradient counts.
        sensitivity: s_k, k = 0, 1, ...: update per standard deviation of the input, k steps ago.
        tpf: TPF, in steps; NaN if the update does not depend on the input, infinite if its past never fades; what was
            seen of it, a lower bound, where ``tail`` is 1.
        tail: Share of the sum over k of (k + 1) s_k that lies past the last lag, by the series that the end looks like.
        by: ``"derivative"`` or ``"perturbation"``.
    """

    input: str
    sensitivity: tuple[float, ...]
    tpf: float
    tail: float
    by: str = DERIVATIVE

    def within(self, steps: int) -> float | None:
        """The field as if nothing lay before the last so many steps; None if the update does not depend on them."""
        zeroth, first = _moments(self.sensitivity[:steps])
        return first / zeroth if zeroth > 0 else None

    @property
    def told(self) -> str:
        """The field in words: ``10``, ``about 1100`` where much lies past the last lag."""
        if math.isnan(self.tpf):
            return "none"
        if math.isinf(self.tpf):
            return "never fades"
        rough = "at least " if self.tail == 1 else "about " if self.tail > _SURE else ""
        return f"{rough}{self.tpf:.3g}"


@dataclass(frozen=True)
class Perception:
    """The perception field of an optimizer.

    Attributes:
        optimizer: Its name.
        curves: Of the raw gradient first; then of each feature of a network, or each memory of a rule.
        notes: What must be known to read them.
    """

    optimizer: str
    curves: tuple[PerceptionCurve, ...]
    notes: tuple[str, ...] = ()

    def get(self, name: str) -> PerceptionCurve:
        """The curve of an input.

        Raises:
            OptionError: there is none.
        """
        for curve in self.curves:
            if curve.input == name:
                return curve
        raise OptionError(f"{self.optimizer} has no input {name!r}, only {', '.join(c.input for c in self.curves)}")

    @property
    def gradient(self) -> PerceptionCurve:
        """That of the raw gradient."""
        return self.curves[0]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def perception(
    optimizer: Rule | LearnedOptimizer | str | Path,
    recording: Trajectories | None = None,
    *,
    lags: int | None = None,
    coordinates: int = 64,
    seed: int = 0,
) -> Perception:
    """The temporal perception field of a rule, a network or any other optimizer.

    Args:
        optimizer: It, or its name.
        recording: Whose gradients and parameters it is run over. None: independent normal gradients; for a memory of a
            rule, which is looked at by itself, only their signs. An optimizer that looks at whole tensors is always run
            over made-up ones, on an 8 x 8 parameter.
        lags: K, steps that are looked back; fewer if the recording is short. None: 64, and twice as many again until
            little lies past the last one, up to 512.
        coordinates: Coordinates that are looked at, at most.
        seed: Draws them.

    Raises:
        OptionError: a count makes no sense, or a recording holds no whole finite coordinate.
        UnknownNameError, RuleError, CheckpointError: the optimizer cannot be loaded.
    """
    if lags is not None:
        check_count("lags", lags, 2, 10_000)
    check_count("coordinates", coordinates, 1, 100_000)
    check_seed("seed", seed)
    learned = in_double(optimizer)
    depth = _depth(learned)
    tried = lags or min(max(FIRST_LAGS, 2 * depth), MOST_LAGS)
    if learned.opaque:  # every lag of every coordinate is a run of its own
        lags, coordinates = tried, min(coordinates, _OUTSIDE)
    while True:
        tape, notes = _tape(learned, recording, tried, coordinates, seed)
        if depth >= tried:
            notes.append(f"it looks back {depth} steps by lag(...), further than the {tried} lags that are shown")
        within = min(tried, max(tape.steps - tape.steps // _UNSETTLED - PROBES, 2))
        curves = tuple(_Field(learned, tape, within, notes, recording is None).curves())
        settled = all(not curve.tail > SETTLED for curve in curves)
        if lags is not None or settled or within < tried or tried >= MOST_LAGS:
            return Perception(learned.name, curves, tuple(notes))
        tried *= 2


def _depth(learned: LearnedOptimizer) -> int:
    """Steps that a rule looks back by ``lag``."""
    rule = rule_of(learned)
    return max(rule.program.live.histories.values(), default=0) if rule is not None else 0


def mean_response(
    optimizer: LearnedOptimizer, *, lags: int, coordinates: int = 64, seed: int = 0, unit: float = 1.0
) -> tuple[float, ...]:
    """h_k = E[-du_t/dg_{t-k}], k = 0, 1, ...: signed, unlike s_k; over made-up gradients.

    Args:
        optimizer: In float64.
        lags: Steps that are looked back.
        coordinates: As for `perception`.
        seed: Draws the gradients.
        unit: Their deviation.
    """
    tape, notes = _tape(optimizer, None, lags, coordinates, seed)
    field = _Field(optimizer, Tape(unit * tape.gradients, tape.weights, tape.block), lags, notes)
    try:
        found = by_derivatives(paths.through_gradient(optimizer), field.state(), field.tape, lags, field.probes)
        none = not bool(found.any())
    except RuntimeError:  # of torch: an operation without a derivative
        none = True
    if none and not isinstance(optimizer, (SymbolicOptimizer, RecurrentOptimizer)):
        size = (_SMALL * field.scale).expand(field.tape.gradients.shape[1])
        found = field.differences(size, 0)
    return tuple((-torch.nan_to_num(found.mean((0, 2)))).tolist())


def _tape(
    optimizer: LearnedOptimizer, recording: Trajectories | None, lags: int, coordinates: int, seed: int
) -> tuple[Tape, list[str]]:
    steps = 2 * lags + PROBES
    if not optimizer.coordinatewise:
        count = max(coordinates // 4, 1)
        note = f"looks at whole tensors: run over made-up gradients of {_SIDE} x {_SIDE} parameters"
        return made_up(steps, _SIDE * _SIDE * count, seed, _SIDE * _SIDE), [note]
    if recording is None:
        return made_up(steps, coordinates, seed), []
    tape = recorded(recording, coordinates, seed)
    if tape is None or tape.steps < 3:
        raise OptionError("the recording holds no coordinate that is finite over three steps or more; record longer")
    return tape, []


@dataclass
class _Field:
    """One optimizer over one tape."""

    optimizer: LearnedOptimizer
    tape: Tape
    lags: int
    notes: list[str]
    made_up: bool = False

    def __post_init__(self) -> None:
        last, first = self.tape.steps - 1, self.lags - 1 + self.tape.steps // _UNSETTLED
        spread = torch.linspace(min(max(first, last - self.lags // 2), last), last, PROBES)
        self.probes = sorted({round(float(t)) for t in spread})
        self.scale = self.tape.gradients.std(correction=0)
        self.scales = self.tape.gradients.std(0, correction=0)[self.tape.watched]

    def curves(self) -> Iterator[PerceptionCurve]:
        rule = rule_of(self.optimizer)
        yield self.of_gradient(rule)
        if isinstance(self.optimizer, RecurrentOptimizer):
            for name in self.optimizer.features:
                step = paths.through_feature(self.optimizer, name)
                yield self.by_derivative(name, step, self.state(), self.deviation(self.optimizer, name))
        if rule is not None:
            for name in paths.memories(rule):
                alone = _Field(self.optimizer, self.even, self.lags, self.notes)
                state = paths.fresh_memory(rule, self.tape.weights[0], self.tape.steps)
                yield alone.by_derivative(name, paths.through_memory(rule, name), state, alone.scales)

    @property
    def even(self) -> Tape:
        """The tape; made-up gradients at one size, so that a memory of squares fades without noise."""
        tape = self.tape
        return Tape(tape.gradients.sign(), tape.weights, tape.block) if self.made_up else tape

    def state(self) -> State:
        return self.tape.begin(self.optimizer)

    def of_gradient(self, rule: Rule | None) -> PerceptionCurve:
        """By derivatives; where a rule is flat, inside its sign; where there are none to take, by differences."""
        try:
            found = self.by_derivative(
                paths.GRADIENT, paths.through_gradient(self.optimizer), self.state(), self.scales
            )
        except RuntimeError:  # of torch: an operation without a derivative
            return self.by_difference()
        if any(s > 0 for s in found.sensitivity):
            ours = rule is not None or isinstance(self.optimizer, RecurrentOptimizer)
            if ours or not self.optimizer.coordinatewise or self.confirmed(found):
                return found
            self.notes.append("its derivatives miss part of what it remembers: taken by differences")
            return self.by_difference()
        bare = paths.inside_sign(rule) if rule is not None else None
        if bare is None:
            if math.isnan(found.sensitivity[0]):
                self.notes.append("not finite over these gradients: it has no field")
            else:
                other = self.by_difference()
                return other if any(s > 0 for s in other.sensitivity) else found
            return found
        self.notes.append("flat but at jumps of its sign: the field is that of what the sign is taken of")
        inner = SymbolicOptimizer(bare)
        step = paths.through_gradient(inner)
        return self.by_derivative(paths.INSIDE_SIGN, step, self.tape.begin(inner), self.scales)

    def confirmed(self, found: PerceptionCurve) -> bool:
        """Whether differences over the first lags agree: somebody's state may be cut off from its past.

        Of what looks at whole tensors that would be a run for each parameter: it is not asked.
        """
        lags = min(_CONFIRMED, self.lags)
        field = _Field(self.optimizer, self.tape, lags, [])
        other = field.by_difference().sensitivity
        near = 0.1 * max(other)
        return all(abs(a - b) <= near for a, b in zip(found.sensitivity, other, strict=False))

    def by_derivative(self, name: str, step: Step, state: State, scale: Tensor) -> PerceptionCurve:
        found = by_derivatives(step, state, self.tape, self.lags, self.probes)
        return _curve(name, found, scale, DERIVATIVE)

    def by_difference(self) -> PerceptionCurve:
        random = self.optimizer.random
        if random:
            self.notes.append(f"draws random numbers: the same ones in all runs, mean of {_DRAWS}")
        size = (_SMALL * self.scale).expand(self.tape.gradients.shape[1])
        runs = [self.differences(size, draw) for draw in range(_DRAWS if random else 1)]
        return _curve(paths.GRADIENT, torch.stack(runs).abs().mean(0), self.scales, PERTURBATION)

    def differences(self, size: Tensor, draw: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw)
            return by_perturbations(self.run, self.tape, self.lags, self.probes, size)

    def run(self, tape: Tape) -> Tensor:
        """Updates of each step, [T, N]."""
        return replayed(self.optimizer.bind(), tape.begin(self.optimizer), tape.gradients, tape.weights)[0]

    def deviation(self, network: RecurrentOptimizer, feature: str) -> Tensor:
        """Of a feature's values over the tape."""
        seen: list[Tensor] = []

        def look(columns: dict[str, Tensor]) -> dict[str, Tensor]:
            seen.append(columns[feature].to(torch.float64).expand_as(self.tape.gradients[0]))
            return columns

        replayed(network.bind_on(look), self.state(), self.tape.gradients, self.tape.weights)
        return torch.stack(seen).std(0, correction=0)[self.tape.watched]


def _curve(name: str, found: Tensor, scale: Tensor, by: str) -> PerceptionCurve:
    """From du_t/dx_{t-k}, [P, K, C]; coordinates that are not finite somewhere are left out."""
    whole = torch.isfinite(found).all(1, keepdim=True)
    counted = whole.sum((0, 2)).clamp(min=1)
    s = (scale * torch.where(whole, found.abs(), 0.0)).sum((0, 2)) / counted
    if not bool(whole.any()):
        s = torch.full_like(s, torch.nan)
    tpf, tail = field_of(s.tolist())
    return PerceptionCurve(name, tuple(s.tolist()), tpf, tail, by)


def _moments(s: Sequence[float]) -> tuple[float, float]:
    """sum_k s_k and sum_k (k + 1) s_k."""
    return sum(s), sum((k + 1) * value for k, value in enumerate(s))


def field_of(s: Sequence[float]) -> tuple[float, float]:
    """TPF of s_0, s_1, ..., in steps, and the share of its numerator that lies past the last one.

    The end is carried on as the geometric series through the means of the last two eighths: of a sum of decaying
    exponentials the slowest is what is left by then.
    """
    most, count = max(s), len(s)
    if not most > 0:
        return math.nan, 0.0
    zeroth, first = _moments(s)
    width = max(count // 8, 1)
    earlier, later = (sum(s[count - j * width : count - (j - 1) * width]) / width for j in (2, 1))
    if later <= _GONE * most:
        return first / zeroth, 0.0
    if later >= earlier:  # no series: a level that stays, or one whose end is out of sight
        return (math.inf if later <= (1 + _LEVEL) * earlier else first / zeroth), 1.0
    ratio = (later / earlier) ** (1 / width)
    # later is the mean of the last eighth; its last term times (ratio + ratio^2 + ...) is what follows
    end = later * width * (1 - ratio) / (1 - ratio**width) * ratio ** (width - 1)
    rest = end * ratio / (1 - ratio)
    weighted = rest * (count + 1 / (1 - ratio))
    return (first + weighted) / (zeroth + rest), weighted / (first + weighted)
