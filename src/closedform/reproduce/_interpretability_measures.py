"""What is measured of one network: perception field, mapping complexity, and losses of it and of its rule.

Every stage leaves its file in the network's folder, and is read from there if it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from closedform._files import read_json, write_json
from closedform.analysis import PerceptionCurve, perception
from closedform.distillation import HallOfFame, Selection, distill, select_closed_loop
from closedform.errors import DivergenceError
from closedform.evaluation import EvaluationOptions, evaluate
from closedform.learned_optimizers import LearnedOptimizer
from closedform.reproduce._faithful import TIME
from closedform.reproduce._interpretability_models import MODELS, trained
from closedform.reproduce._interpretability_plan import Plan
from closedform.rules import Rule, save_rule
from closedform.trajectories import Trajectories, record

GRADIENT = "gradient"
"""The raw gradient among the inputs of a perception field."""
NEAR = 20
"""Steps that the paper's equations look back."""
NUMERICAL, DISTILLED = "numerical", "distilled"
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Field:
    """The perception field of one input.

    Attributes:
        tpf: In steps; None if it is infinite, or the update does not depend on the input.
        tail: Share of its numerator that lies past the last lag, by extrapolation; 1 if it is infinite.
        near: The same of the last ``NEAR`` steps alone, as if nothing lay before them; None if there is no dependence.
    """

    tpf: float | None
    tail: float
    near: float | None


@dataclass(frozen=True)
class Measured:
    """One network of one seed.

    Attributes:
        model, seed: Which.
        first_validation, validation: Final loss on validation's episodes before meta-training and at its best.
        best_step: The meta-step of the best.
        fields: Input -> its perception field; ``gradient`` is the raw one.
        mc, mc_state_cost, mc_r2, mc_equation: The smallest equation within 0.01 of the best held-out R^2.
        best_r2: That best.
        numerical, distilled: Losses at the end, a seed each; None where it diverged.
        rule, rule_r2: The equation that trained for ``distilled``; None: none of those tried trains.
        seconds: Of meta-training, of the distillation, and of what follows.
    """

    model: str
    seed: int
    first_validation: float | None
    validation: float | None
    best_step: int
    fields: dict[str, Field]
    mc: int
    mc_state_cost: int
    mc_r2: float
    mc_equation: str
    best_r2: float
    numerical: tuple[float | None, ...]
    distilled: tuple[float | None, ...]
    rule: str | None
    rule_r2: float | None
    seconds: tuple[float, float, float]


def measured(name: str, seed: int, plan: Plan, folder: Path | None) -> Measured:
    """Meta-train one network, and measure it."""
    path = folder / "measured.json" if folder is not None else None
    if path is not None and path.exists():
        return _read(read_json(path, what="measurements of a network"))
    result = trained(MODELS[name], plan.training, seed, folder / "training" if folder is not None else None)
    recording = _recording(result.optimizer, plan, seed, folder)
    hall = _hall(recording, plan, seed, folder)
    begin = time.monotonic()
    entry = hall.simplest
    choice = _choice(hall, plan, folder)
    numerical, distilled = _losses(result.optimizer, choice, plan, folder)
    found = Measured(
        model=name,
        seed=seed,
        first_validation=result.first_validation,
        validation=result.best_validation,
        best_step=result.best_step,
        fields=_fields(result.optimizer, recording, plan, seed),
        mc=entry.complexity,
        mc_state_cost=entry.state_cost,
        mc_r2=entry.r2,
        mc_equation=entry.equation,
        best_r2=max(other.r2 for other in hall.entries),
        numerical=numerical,
        distilled=distilled,
        rule=choice.entry.equation if choice else None,
        rule_r2=choice.entry.r2 if choice else None,
        seconds=(result.seconds, float(hall.provenance["seconds"]), time.monotonic() - begin),
    )
    if path is not None:
        write_json(path, asdict(found))
    return found


def _read(document: Any) -> Measured:
    fields = {name: Field(**field) for name, field in document["fields"].items()}
    tuples = {name: tuple(document[name]) for name in ("numerical", "distilled", "seconds")}
    return Measured(**{**document, **tuples, "fields": fields})


def _kept(path: Path | None, load: Callable[[Path], Kept], make: Callable[[], Kept]) -> Kept:
    """From its file, or made and written there."""
    if path is not None and path.exists():
        return load(path)
    value = make()
    if path is not None:
        value.save(path)  # type: ignore[attr-defined]
    return value


def _recording(optimizer: LearnedOptimizer, plan: Plan, seed: int, folder: Path | None) -> Trajectories:
    """The network at work: its features, and the step, since networks anneal."""
    config = replace(plan.recording, features=(*optimizer.features, TIME), seed=seed)
    path = folder / "recording.safetensors" if folder is not None else None
    return _kept(path, Trajectories.load, lambda: record(optimizer, plan.training.task, config))


def _hall(recording: Trajectories, plan: Plan, seed: int, folder: Path | None) -> HallOfFame:
    path = folder / "hall.json" if folder is not None else None
    return _kept(path, HallOfFame.load, lambda: distill(recording, config=replace(plan.distillation, seed=seed)))


def _fields(optimizer: LearnedOptimizer, recording: Trajectories, plan: Plan, seed: int) -> dict[str, Field]:
    found = perception(optimizer, recording, lags=plan.lags, seed=seed)
    return {curve.input: _field(curve) for curve in found.curves}


def _field(curve: PerceptionCurve) -> Field:
    return Field(curve.tpf if math.isfinite(curve.tpf) else None, curve.tail, curve.within(NEAR))


def _choice(hall: HallOfFame, plan: Plan, folder: Path | None) -> Selection | None:
    """The rule that trains best where the network learned, for as long as losses are taken; None if none does."""
    length = plan.evaluated.horizon
    try:
        choice = select_closed_loop(hall, [plan.training.task], top=plan.candidates, seeds=plan.trials, length=length)
    except DivergenceError:
        return None
    if folder is not None:
        save_rule(choice.rule, folder / "rule.json")
    return choice


def _losses(
    optimizer: LearnedOptimizer, choice: Selection | None, plan: Plan, folder: Path | None
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Minibatch training losses at the end, of the network and of its rule, from the same starts."""
    entrants: dict[str, LearnedOptimizer | Rule] = {NUMERICAL: optimizer}
    if choice is not None:
        entrants[DISTILLED] = choice.rule
    evaluation = evaluate(
        entrants,
        [plan.evaluated],
        seeds=plan.loss_seeds,
        baselines=(),
        config=EvaluationOptions(workers=1),
        out=folder / "evaluation" if folder is not None else None,
    )
    losses = {kind: evaluation.get(plan.evaluated.name, kind).final_loss.values for kind in entrants}
    return losses[NUMERICAL], losses.get(DISTILLED, (None,) * plan.loss_seeds)
