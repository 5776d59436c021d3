"""How a network and the equations distilled from it answer to their inputs.

A network's update depends on its hidden state, so it is no function of the present features alone. Two views do
without inventing a hidden state:

- **By feature.** Rows of a recording are binned by one feature. The network's line is the mean of the updates it
  printed in each bin, its band their 10 % to 90 % quantiles. A rule's line is the mean of what the rule prints in the
  same rows, having been run over the same gradients from the start of the episode. Its thin line is the rule's
  expression with everything else held at its median: the shape of the equation itself.
- **By gradient.** Network and rules are run over the recorded gradients; at some steps, with the state they really have
  there, the present gradient of every coordinate is replaced by a multiple of its root mean square so far. The line is
  the mean update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from closedform.errors import OptionError
from closedform.lang import Lag, Program, Symbol, evaluate, lags, names
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, fresh_state
from closedform.rules import Rule
from closedform.trajectories import Trajectories, lagged, run_source

BINS = 24
_OUTER = 0.01  # rows beyond these quantiles of a feature are not shown
_PROBES = 6  # steps at which gradients are replaced
_SPAN = 4.0  # multiples of a gradient's root mean square


@dataclass(frozen=True)
class Response:
    """The update as a function of one input.

    Attributes:
        input: The feature; ``"gradient"`` for the gradient view, whose x counts multiples of its root mean square.
        x: [P] values of the input.
        network: [P] mean update of the network; None if there is no network in this view.
        band: Quantiles (10 %, 90 %) of the network's updates, [P] each; None if there are none.
        rules: Label -> [P] mean update of the rule.
        shapes: Label -> [P] the rule's update with all else at its median.
    """

    input: str
    x: tuple[float, ...]
    network: tuple[float, ...] | None
    band: tuple[tuple[float, ...], tuple[float, ...]] | None
    rules: Mapping[str, tuple[float, ...]]
    shapes: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ResponseCurves:
    """All responses, and how well each rule reproduces the recorded updates.

    Attributes:
        responses: By feature, then by gradient.
        fidelity: Label -> R^2 of the rule's updates against the recorded ones, on the rows.
        rows: Number of rows.
    """

    responses: tuple[Response, ...]
    fidelity: Mapping[str, float]
    rows: int


def response_curves(
    rules: Rule | Mapping[str, Rule], network: LearnedOptimizer | None, trajectories: Trajectories
) -> ResponseCurves:
    """Responses of a network and of rules, over a recording of the network.

    Args:
        rules: A rule, or label -> rule.
        network: The recorded network; None leaves out its line in the gradient view.
        trajectories: Its recording; held-out episodes make ``fidelity`` a held-out one.

    Raises:
        OptionError: a rule reduces over parameter tensors, of which a recording holds some coordinates only.
    """
    by_label = {rules.name: rules} if isinstance(rules, Rule) else dict(rules)
    replays = {label: _Replay(rule, trajectories) for label, rule in by_label.items()}
    recorded = trajectories.updates.to(torch.float64)
    features = trajectories.features.to(torch.float64)
    views = [
        _by_feature(column.feature, features[:, index], recorded, replays)
        for index, column in enumerate(trajectories.columns)
        if column.lag == 0
    ]
    views.append(_by_gradient(by_label, network, trajectories))
    fidelity = {label: _r2(replay.updates, recorded) for label, replay in replays.items()}
    return ResponseCurves(tuple(views), fidelity, len(recorded))


class _Replay:
    """A rule run over the recording's gradients: its updates in the recording's rows, and its expression's inputs."""

    def __init__(self, rule: Rule, trajectories: Trajectories) -> None:
        program = rule.program.live
        if program.reduces:
            raise OptionError(f"responses of rule {rule.name!r} cannot be computed: it reduces over parameter tensors")
        self.rule = rule
        self._cells = trajectories.positions()
        self._signals = _signals(program, trajectories)
        self.updates = rule.lr * self._signals.pop("update")[self._cells]
        self._past = {
            (name, k): self._median(name, k) for name, deep in lags(rule.update).items() for k in range(1, deep + 1)
        }
        self._now = {name: self._median(name) for name in names(rule.update) - set(program.constants)}

    def shape(self, feature: str, x: Sequence[float]) -> tuple[float, ...] | None:
        """The update over ``feature`` with all else at its median; None if the update does not read it."""
        if feature not in self._now:
            return None
        constants = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.rule.constants.items()}
        values = {**constants, **self._now, feature: torch.tensor(x, dtype=torch.float64)}
        update = self.rule.lr * evaluate(self.rule.update, values, self._at)
        return tuple(update.expand(len(x)).tolist())

    def _at(self, node: Lag) -> Tensor:
        return self._past[node.name, node.steps]

    def _median(self, name: str, lag: int = 0) -> Tensor:
        values = lagged(self._signals[name], lag)[self._cells]
        return values[torch.isfinite(values)].median()


def _signals(program: Program, trajectories: Trajectories) -> dict[str, Tensor]:
    """Everything that the update reads, and the update, [E, T, C] each."""
    read = names(program.outputs["update"]) | set(lags(program.outputs["update"]))
    outputs = {name: Symbol(name) for name in read if name not in program.constants}
    whole = Program(program.constants, program.state, program.where, {**outputs, **program.outputs})
    return run_source(whole, trajectories.gradients, trajectories.weights)


def _by_feature(feature: str, values: Tensor, recorded: Tensor, replays: Mapping[str, _Replay]) -> Response:
    x, rows = _bins(values)
    means = {label: _means(replay.updates, rows) for label, replay in replays.items()}
    shapes = {label: replay.shape(feature, x) for label, replay in replays.items()}
    low, high = (tuple(float(np.quantile(recorded[r].numpy(), q)) for r in rows) for q in (0.1, 0.9))
    return Response(
        feature,
        x,
        _means(recorded, rows),
        (low, high),
        means,
        {label: shape for label, shape in shapes.items() if shape is not None},
    )


def _bins(values: Tensor) -> tuple[tuple[float, ...], list[Tensor]]:
    """Bins of equal width within the outer quantiles that hold rows: their mean values, and the rows of each."""
    low, high = (float(np.quantile(values.numpy(), q)) for q in (_OUTER, 1 - _OUTER))
    inside = (values >= low) & (values <= high)
    place = ((values - low) / max(high - low, 1e-300) * BINS).long().clamp(0, BINS - 1)
    rows = [torch.nonzero(inside & (place == index)).squeeze(1) for index in range(BINS)]
    rows = [found for found in rows if len(found)]
    return tuple(float(values[found].mean()) for found in rows), rows


def _means(updates: Tensor, rows: Sequence[Tensor]) -> tuple[float, ...]:
    return tuple(float(updates[found].nanmean()) for found in rows)


def _r2(predicted: Tensor, recorded: Tensor) -> float:
    residual = (predicted - recorded).square().sum()
    return float(1 - residual / (recorded - recorded.mean()).square().sum())


@torch.no_grad()
def _by_gradient(rules: Mapping[str, Rule], network: LearnedOptimizer | None, trajectories: Trajectories) -> Response:
    whole = torch.isfinite(trajectories.gradients).all(dim=1).all(dim=1)
    gradients, weights = (_flat(values[whole]) for values in (trajectories.gradients, trajectories.weights))
    multiples = torch.linspace(-_SPAN, _SPAN, 33)
    found = {label: _probed(SymbolicOptimizer(rule), gradients, weights, multiples) for label, rule in rules.items()}
    return Response(
        "gradient",
        tuple(multiples.tolist()),
        _probed(network, gradients, weights, multiples) if network is not None else None,
        None,
        found,
        {},
    )


def _probed(optimizer: LearnedOptimizer, gradients: Tensor, weights: Tensor, multiples: Tensor) -> tuple[float, ...]:
    """Mean update when the present gradient is a multiple of its root mean square so far.

    Args:
        optimizer: Coordinatewise.
        gradients, weights: [T, N].
        multiples: [P].
    """
    steps = len(gradients)
    probes = {round((index + 1) * (steps - 1) / _PROBES) for index in range(_PROBES)}
    update, state = optimizer.bind(), fresh_state(optimizer, weights[0], None, steps)
    squares = torch.zeros_like(gradients[0])
    total, count = torch.zeros(len(multiples), dtype=torch.float64), 0
    for t in range(steps):
        squares = squares + gradients[t].square()
        if t in probes:
            scale = (squares / (t + 1)).sqrt()
            alive = scale > 0
            answers = [update(float(z) * scale, weights[t], state)[0][alive] for z in multiples]
            total += torch.stack([answer.to(torch.float64).sum() for answer in answers])
            count += int(alive.sum())
        state = update(gradients[t], weights[t], state)[1]
    return tuple((total / max(count, 1)).tolist())


def _flat(values: Tensor) -> Tensor:
    """[E, T, C] as [T, E*C]."""
    return values.transpose(0, 1).reshape(values.shape[1], -1)
