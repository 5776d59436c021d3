"""Checkpoints of meta-training: one safetensors file with everything that a run needs to go on as if never stopped.

The header holds, as JSON, what the run is (`describe`) and its counters; the tensors are the meta-parameters, the best
ones so far, Adam's moments, and every slot's episode with the state of its random generators. Of a run on several ranks
it holds all slots, and any number of ranks that divides them can go on with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform.errors import CheckpointError
from closedform.learned_optimizers._storage import load_weights, read_tensors, write_tensors
from closedform.meta_training._episodes import Episode, make_problem, together
from closedform.meta_training._trainer import Trainer
from closedform.meta_training._unroll import Carry

FORMAT = "closedform.meta_training/3"
_FREE = ("time_limit", "checkpoint_every")
"""Options that a resumed run may change: they do not change what is computed."""

_PLACES = ("w", "loss", "gradient", "initial")
"""Tensors of a carry that lie on the task's device."""
_PROGRESS = ("step", "diverged", "bad_in_a_row", "best_step", "best_validation", "stage", "stale")


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
    progress = {key: getattr(trainer, key) for key in _PROGRESS} | {"seconds": seconds, "metrics_bytes": metrics_bytes}
    header = {"format": FORMAT, "run": json.dumps(describe(trainer)), "progress": json.dumps(progress)}
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
        raise CheckpointError(
            f"{path} has format {header.get('format')!r}, not {FORMAT!r}: not a checkpoint of this version"
        )
    try:
        _check_same_run(path, json.loads(header["run"]), json.loads(json.dumps(describe(trainer))))
        progress = json.loads(header["progress"])
        _restore(path, trainer, tensors, progress)
        return float(progress["seconds"]), int(progress["metrics_bytes"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged or of another version: {error!r}"[:300]) from error


def _restore(path: Path, trainer: Trainer, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
    load_weights(trainer.optimizer, _part(tensors, "model."), path)
    trainer.best = _part(tensors, "best.")
    trainer.norms.sums = tensors["norms"]
    for key in _PROGRESS:
        setattr(trainer, key, progress[key])
    for index, parameter in enumerate(trainer.parameters):
        moments = _part(tensors, f"adam{index}.")
        trainer.adam.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    begun = any(key.startswith("episode") for key in tensors)
    trainer.slots = [_episode(trainer, slot, _part(tensors, f"episode{slot}.")) for slot in trainer.own_slots if begun]


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
    kind, horizon, number, step, total, seed = tensors["counters"].tolist()
    task = trainer.source.again(kind, seed)
    generators = [torch.Generator() for _ in tensors["generators"]]
    for generator, state in zip(generators, tensors["generators"], strict=True):
        generator.set_state(state.clone())  # of a row in a larger tensor it would read the wrong bytes
    steady = ("counters", "generators", "state.sizes")
    moved = {
        key: value.to(task.device) if value.dim() and key not in steady else value for key, value in tensors.items()
    }
    places = {key: moved[key].to(task.device) for key in _PLACES}
    state, memory = _part(moved, "state."), _part(moved, "memory.")
    carry = Carry(**places, state=state, memory=memory, generator=together(generators), step=step, total=total)
    return Episode(kind, horizon, make_problem(task, len(generators), moved.get("scale")), carry, slot, number, seed)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _check_same_run(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for section in ours:
        mine, other = ours[section], theirs.get(section)
        if mine == other:
            continue
        what = section
        if isinstance(mine, dict) and isinstance(other, dict):
            key = next(key for key in {**mine, **other} if mine.get(key) != other.get(key))
            what, mine, other = f"{section}, {key}", mine.get(key), other.get(key)
        raise CheckpointError(
            f"{path} is of another run: {what} was {json.dumps(other)[:80]}, now {json.dumps(mine)[:80]}; "
            "resume with the options of config.json, or choose another --out"
        )
