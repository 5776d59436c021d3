"""Checkpoints of meta-training: one safetensors file with everything that a run needs to go on as if never stopped.

The header holds, as JSON, what the run is (`describe`) and its counters; the tensors are the meta-parameters, the best
ones so far, Adam's moments, and every slot's episode with the state of its random generators. Of a run on several ranks
it holds all slots, and any number of ranks that divides them can go on with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._document import Count, Malformed, Seconds, parse_json, read, shown
from closedform._files import finite
from closedform._tensors import read_tensors, write_tensors
from closedform.errors import CheckpointError
from closedform.learned_optimizers import check_weights, load_weights
from closedform.meta_training._episodes import Episode, make_problem, together
from closedform.meta_training._trainer import Trainer
from closedform.tasks import Task
from closedform.unroll import AnyProblem, Carry, begin, generator_for

FORMAT = "closedform.meta_training/3"
_FREE = ("time_limit", "checkpoint_every")
"""Options that a resumed run may change: they do not change what is computed."""

_PLACES = ("w", "loss", "gradient", "initial")
"""Tensors of a carry that lie on the task's device."""
_OTHERS = ("counters", "generators", "scale")
"""Tensors of an episode beside its carry."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What `torch.optim.Adam` keeps of a parameter."""
_STATE = torch.Generator().get_state()


@dataclass(frozen=True)
class _Progress:
    """A run's counters, as `Trainer` has them; and its seconds, and the length of metrics.jsonl in bytes."""

    step: Count
    diverged: Count
    bad_in_a_row: Count
    best_step: Count
    best_validation: float | None
    stage: Count
    stale: Count
    seconds: Seconds
    metrics_bytes: Count

    def __post_init__(self) -> None:
        if self.best_step > self.step:
            raise ValueError(f"best_step, {self.best_step}, is past step {self.step}")


_COUNTERS = tuple(entry.name for entry in fields(_Progress))[:7]


def describe(trainer: Trainer) -> dict[str, Any]:
    """What a run is: two runs with equal descriptions compute the same."""
    return {
        "format": FORMAT,
        "learned_optimizer": trainer.optimizer.describe(),
        "tasks": trainer.source.describe(),
        "estimator": trainer.estimator.describe(),
        "config": {key: value for key, value in trainer.config.describe().items() if key not in _FREE},
    }


def write_checkpoint(path: Path, trainer: Trainer, *, seconds: float, metrics_bytes: int) -> None:
    """Write a checkpoint, atomically, of all ranks' episodes; every rank must call this, and the first one writes.

    Args:
        path: The file.
        trainer: What to write.
        seconds: Time that the run took so far.
        metrics_bytes: Length of metrics.jsonl.

    Raises:
        OutputError: it cannot be written.
    """
    episodes = {f"episode{one.slot}.{key}": value for one in trainer.slots for key, value in _tensors(one).items()}
    episodes = trainer.ranks.gather(episodes)
    if not trainer.ranks.first:
        return
    tensors = {f"model.{key}": value for key, value in trainer.optimizer.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in trainer.best.items()}
    for index, parameter in enumerate(trainer.parameters):
        tensors |= {f"adam{index}.{key}": value for key, value in trainer.adam.state[parameter].items()}
    progress = {key: getattr(trainer, key) for key in _COUNTERS} | {"seconds": seconds, "metrics_bytes": metrics_bytes}
    header = {"format": FORMAT, "run": json.dumps(describe(trainer)), "progress": json.dumps(finite(progress))}
    write_tensors(path, {**tensors, **episodes, "norms": trainer.norms.sums}, header)


def restore_checkpoint(path: Path, trainer: Trainer) -> tuple[float, int]:
    """Put a trainer, made with the same options, where a checkpoint says.

    Returns:
        The seconds so far, and the length of metrics.jsonl in bytes.

    Raises:
        CheckpointError: the file is damaged, or of a run with other options; the message names the first that differs.
    """
    tensors, header = read_tensors(path, "checkpoint")
    if header.get("format") != FORMAT:
        found = shown(header.get("format"))
        raise CheckpointError(f"{path} has format {found}, not {FORMAT!r}: not a checkpoint of this version")
    try:
        run: Mapping[str, Any] = read(parse_json(header.get("run", "null")), Mapping[str, Any], "run")
        _check_same_run(path, run, json.loads(json.dumps(describe(trainer))))
        progress: _Progress = read(parse_json(header.get("progress", "null")), _Progress, "progress")
        _restore(path, trainer, tensors, progress)
        return progress.seconds, progress.metrics_bytes
    except (Malformed, KeyError, RuntimeError) as error:  # RuntimeError: a generator's state that torch refuses
        raise CheckpointError(f"checkpoint {path} is damaged or of another version: {error}"[:300]) from error


def _restore(path: Path, trainer: Trainer, tensors: Mapping[str, Tensor], progress: _Progress) -> None:
    best = _part(tensors, "best.")
    check_weights(trainer.optimizer, best, path)
    norms = _like(tensors, "norms", trainer.norms.sums)
    moments = [_moments(trainer, index, _part(tensors, f"adam{index}.")) for index in range(len(trainer.parameters))]
    begun = any(key.startswith("episode") for key in tensors)
    slots = [_episode(trainer, slot, _part(tensors, f"episode{slot}.")) for slot in trainer.own_slots if begun]
    load_weights(trainer.optimizer, _part(tensors, "model."), path)
    trainer.best, trainer.norms.sums, trainer.slots = best, norms, slots
    for key in _COUNTERS:
        setattr(trainer, key, getattr(progress, key))
    trainer.best_validation = math.inf if progress.best_validation is None else progress.best_validation
    for parameter, moment in zip(trainer.parameters, moments, strict=True):
        if moment:
            trainer.adam.state[parameter] = moment


def _moments(trainer: Trainer, index: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adam's state of a parameter; empty if it took no step yet."""
    parameter = trainer.parameters[index]
    if not tensors:
        return {}
    step = torch.zeros(())
    found = {key: _like(tensors, key, step if key == "step" else parameter) for key in _MOMENTS}
    if len(tensors) > len(found) or not all(bool(torch.isfinite(value).all()) for value in found.values()):
        raise Malformed(f"adam{index} holds something else than finite moments")
    return {key: value.to(parameter.device) for key, value in found.items()}


def _tensors(episode: Episode) -> dict[str, Tensor]:
    carry = episode.carry
    generators = [carry.generator] if isinstance(carry.generator, torch.Generator) else carry.generator
    tensors = {key: getattr(carry, key) for key in _PLACES}
    tensors["generators"] = torch.stack([generator.get_state() for generator in generators])
    counters = [episode.task, episode.horizon, episode.number, carry.step, carry.total, episode.seed]
    tensors["counters"] = torch.tensor(counters)
    if episode.problem.scale is not None:
        tensors["scale"] = episode.problem.scale
    tensors |= {f"state.{key}": value for key, value in carry.state.items()}
    return tensors | {f"memory.{key}": value for key, value in carry.memory.items()}


def _episode(trainer: Trainer, slot: int, tensors: dict[str, Tensor]) -> Episode:
    numbers = _like(tensors, "counters", torch.zeros(6, dtype=torch.int64)).tolist()
    kind, horizon, number, step, total, seed = (read(one, Count, "counters") for one in numbers)
    if kind >= trainer.source.kinds or not number >= 1 or not step < horizon <= total:
        raise Malformed(f"episode{slot} cannot be at step {step} of {horizon}")
    task = trainer.source.again(kind, seed)
    generators = _generators(trainer, tensors)
    scale = _scale(task, len(generators), tensors) if trainer.config.random_scaling else None
    problem = make_problem(task, len(generators), scale)
    carry = _carry(trainer, problem, {key: value for key, value in tensors.items() if key not in _OTHERS}, total)
    carry = replace(carry, generator=together(generators), step=step)
    return Episode(kind, horizon, problem, carry, slot, number, seed)


def _scale(task: Task, count: int, tensors: Mapping[str, Tensor]) -> Tensor:
    shape = (task.size,) if count == 1 else (count, task.size)
    scale = _like(tensors, "scale", torch.empty(shape, dtype=task.dtype, device=task.device))
    if not bool((scale > 0).all() & scale.isfinite().all()):
        raise Malformed("scale is not positive")
    return scale


def _generators(trainer: Trainer, tensors: Mapping[str, Tensor]) -> list[torch.Generator]:
    count = trainer.config.side_by_side
    states = _like(tensors, "generators", torch.zeros(count, len(_STATE), dtype=torch.uint8))
    generators = [torch.Generator() for _ in states]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state.clone())  # of a row in a larger tensor it would read the wrong bytes
    return generators


def _carry(trainer: Trainer, problem: AnyProblem, tensors: Mapping[str, Tensor], total: int) -> Carry:
    """What was stored, which must look like the carry of a fresh episode."""
    rows = [generator_for(0, row) for row in range(trainer.config.side_by_side)]
    fresh = trainer.estimator.start(trainer.optimizer, begin(trainer.optimizer, problem, together(rows), total))
    known = {key: getattr(fresh, key) for key in _PLACES}
    known |= {f"state.{key}": value for key, value in fresh.state.items()}
    known |= {f"memory.{key}": value for key, value in fresh.memory.items()}
    added = {f"memory.{key}": value for key, value in trainer.estimator.adds(problem, fresh).items()}
    if added.keys() <= tensors.keys():
        known |= added
    if unknown := tensors.keys() - known.keys():
        raise Malformed(f"{shown(min(unknown))} is no part of an episode")
    found = {key: _like(tensors, key, value) for key, value in known.items()}
    places = {key: found[key] for key in _PLACES}
    return Carry(
        **places, state=_part(found, "state."), memory=_part(found, "memory."), generator=(), step=0, total=total
    )


def _like(tensors: Mapping[str, Tensor], key: str, expected: Tensor) -> Tensor:
    """The tensor of that name, which must have the shape and type of one that is known; on its device."""
    found = tensors.get(key)
    if found is None:
        raise Malformed(f"{key} is missing")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise Malformed(f"{key} is {found.dtype} {list(found.shape)}, not {expected.dtype} {list(expected.shape)}")
    return found.to(expected.device)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check_same_run(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    for section in ours:
        mine, other = ours[section], theirs.get(section)
        if mine == other:
            continue
        what = section
        if isinstance(mine, dict) and isinstance(other, dict):
            key = next(key for key in {**mine, **other} if mine.get(key, ...) != other.get(key, ...))
            what, mine, other = f"{section}, {key}", mine.get(key), other.get(key)
        raise CheckpointError(
            f"{path} is of another run: {what} was {json.dumps(other)[:80]}, now {json.dumps(mine)[:80]}; "
            "resume with the options of config.json, or choose another --out"
        )
