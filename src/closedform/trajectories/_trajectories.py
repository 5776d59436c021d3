"""Trajectories: what a recording holds, and how it is split by episode.

Two views of the same steps. **Rows**, for regression: features [N, F] and updates [N], sampled so that all layers and
all times count. **Episodes**, for recurrences: gradients, weights and updates [E, T, C] of some coordinates from step 1
on, from which more columns can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform._options import check_seed, check_share
from closedform.errors import ClosedFormError, DataError, OptionError
from closedform.lang import Program
from closedform.trajectories import _storage
from closedform.trajectories._columns import MAX_LAG, Column, check_source

_ROW_LABELS = ("episode", "step", "coordinate", "layer")


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Recorded features and updates.

    Attributes:
        columns: What each feature column is.
        features: [N, F], in the units of the signals.
        updates: [N], the change of the parameter at that step (learning rate included).
        episode, step, coordinate, layer: [N], int64. The episode's number in ``episodes``; the step from 1; the index
            of the parameter in the optimizee's flat vector; the number of its tensor in ``provenance["layers"]``.
        source: The program that computes the columns' signals; its outputs are the signals.
        gradients, weights, episode_updates: [E, T, C], whole episodes of C coordinates each; the weights are those
            before the update. Not finite from the step on where an episode diverged.
        episodes: [E], the episodes' numbers, int64.
        episode_coordinates, episode_layers: [E, C], int64.
        provenance: What was recorded: optimizer, tasks, seeds, layers, counts. Any JSON object.

    Raises:
        DataError: shapes or types do not fit together.
    """

    columns: tuple[Column, ...]
    features: Tensor
    updates: Tensor
    episode: Tensor
    step: Tensor
    coordinate: Tensor
    layer: Tensor
    source: Program
    gradients: Tensor
    weights: Tensor
    episode_updates: Tensor
    episodes: Tensor
    episode_coordinates: Tensor
    episode_layers: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_rows(self)
        _check_episodes(self)

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the feature columns, in order: ``m_tilde``, ``m_tilde_1``, ..."""
        return tuple(column.name for column in self.columns)

    @property
    def whole_tensors(self) -> bool:
        """Whether of every tensor that an episode follows all elements were recorded."""
        layers = self.provenance.get("layers")
        if not isinstance(layers, Sequence) or not self.gradients.numel():
            return False
        sizes = [_elements(layer) for layer in layers]
        for found in self.episode_layers:
            numbers, counts = found.unique(return_counts=True)
            pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
            if any(not 0 <= number < len(sizes) or sizes[number] != count for number, count in pairs):
                return False
        return True

    @property
    def nonfinite_rows(self) -> int:
        """Rows with a NaN or infinity in a feature or the update."""
        finite = torch.isfinite(self.features).all(dim=1) & torch.isfinite(self.updates)
        return int((~finite).sum())

    def positions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each row lies in the episodes' arrays: indices of the first, second and third dimension, [N] each.

        Raises:
            DataError: a row's coordinate was not recorded as an episode.
        """
        first = torch.searchsorted(self.episodes, self.episode.contiguous())
        match = self.episode_coordinates[first] == self.coordinate[:, None]
        if not bool(match.any(dim=1).all()):
            raise DataError("some rows' coordinates are not among the recorded episodes; record again")
        return first, self.step - 1, match.to(torch.int64).argmax(dim=1)

    def select_episodes(self, numbers: Sequence[int]) -> Trajectories:
        """The rows and episodes of the given episode numbers only."""
        wanted = torch.tensor(sorted(set(numbers)), dtype=torch.int64)
        rows, blocks = torch.isin(self.episode, wanted), torch.isin(self.episodes, wanted)
        part = {name: getattr(self, name)[rows] for name in ("features", "updates", *_ROW_LABELS)}
        names = ("gradients", "weights", "episode_updates", "episodes", "episode_coordinates", "episode_layers")
        part |= {name: getattr(self, name)[blocks] for name in names}
        return replace(self, **part)

    def split(
        self, test_fraction: float = 0.25, seed: int = 0, test_episodes: Sequence[int] | None = None
    ) -> tuple[Trajectories, Trajectories]:
        """Training and held-out trajectories: whole episodes, never rows of one episode in both.

        Args:
            test_fraction: Share of the episodes to hold out, at least one, of every task its share.
            seed: Chooses which.
            test_episodes: The numbers of the episodes to hold out, instead.

        Raises:
            OptionError: fewer than two episodes, or nothing would be left on one side.
        """
        known = self.episodes.tolist()
        if len(known) < 2:
            raise OptionError("a split by episode needs at least two episodes; record more")
        chosen = (
            set(known) & set(test_episodes)
            if test_episodes is not None
            else hold_out(self.episodes_by_task, test_fraction, seed)
        )
        if not chosen or len(chosen) == len(known):
            raise OptionError(f"the held-out episodes must be some but not all of {known}")
        train = self.select_episodes([number for number in known if number not in chosen])
        return train, self.select_episodes(sorted(chosen))

    @property
    def episodes_by_task(self) -> list[list[int]]:
        """The episodes' numbers, those of one task together."""
        tasks = {entry["number"]: entry["task"] for entry in self.provenance.get("episodes", [])}
        groups: dict[Any, list[int]] = {}
        for number in self.episodes.tolist():
            groups.setdefault(tasks.get(number), []).append(number)
        return list(groups.values())

    def save(self, path: str | Path) -> Path:
        """Write the recording, atomically: one safetensors file.

        Raises:
            OutputError: the folder cannot be written.
        """
        tensors = {name: getattr(self, name) for name in _TENSORS}
        _storage.write(Path(path), _storage.Content(tensors, self.columns, self.source, self.provenance))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Trajectories:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, too large, damaged, of another format version, or does not fit
                together.
        """
        found = _storage.read_content(Path(path), _TENSORS)
        try:
            return cls(columns=found.columns, source=found.source, provenance=found.provenance, **found.tensors)
        except ClosedFormError as error:
            raise _storage.damaged(Path(path), error) from None


def hold_out(groups: Sequence[Sequence[int]], fraction: float, seed: int) -> set[int]:
    """Numbers to hold out: of every group its share, at least one, and not all of it if there are two.

    Raises:
        OptionError: the share or the seed makes no sense.
    """
    check_share("test_fraction", fraction)
    check_seed("seed", seed)
    generator = torch.Generator().manual_seed(seed)
    chosen: set[int] = set()
    for numbers in groups:
        order = torch.randperm(len(numbers), generator=generator).tolist()
        count = min(max(round(fraction * len(numbers)), 1), len(numbers) - 1)
        chosen |= {numbers[index] for index in order[:count]}
    return chosen


_TENSORS = tuple(entry.name for entry in fields(Trajectories) if entry.type == "Tensor")


def save_trajectories(trajectories: Trajectories, path: str | Path) -> Path:
    """`Trajectories.save`."""
    return trajectories.save(path)


def load_trajectories(path: str | Path) -> Trajectories:
    """`Trajectories.load`."""
    return Trajectories.load(path)


def _check_columns(trajectories: Trajectories) -> None:
    names = trajectories.column_names
    if not names or len(set(names)) != len(names):
        raise DataError(f"the columns must be one or more with different names, not {list(names)[:20]}")
    try:
        check_source(trajectories.source)
    except OptionError as error:
        raise DataError(str(error)) from None
    for column in trajectories.columns:
        if column.feature not in trajectories.source.outputs:
            raise DataError(f"column {column.name!r} is not computed by the recording's program")
        if not 0 <= column.lag <= MAX_LAG:
            raise DataError(f"column {column.name!r} looks back {column.lag} steps; the limit is {MAX_LAG}")


def _check_rows(trajectories: Trajectories) -> None:
    rows = len(trajectories.updates)
    shapes = {"features": (rows, len(trajectories.columns)), "updates": (rows,), **dict.fromkeys(_ROW_LABELS, (rows,))}
    _check_shapes(trajectories, shapes)
    _check_types(trajectories, ("features", "updates"), _ROW_LABELS)


def _check_episodes(trajectories: Trajectories) -> None:
    shape = tuple(trajectories.gradients.shape)
    if len(shape) != 3:
        raise DataError(f"gradients must have three dimensions [episodes, steps, coordinates], not {list(shape)}")
    shapes = {"weights": shape, "episode_updates": shape, "episodes": shape[:1]}
    shapes |= dict.fromkeys(("episode_coordinates", "episode_layers"), (shape[0], shape[2]))
    _check_shapes(trajectories, shapes)
    whole = ("episodes", "episode_coordinates", "episode_layers")
    _check_types(trajectories, ("gradients", "weights", "episode_updates"), whole)
    numbers = trajectories.episodes
    if bool((numbers[1:] <= numbers[:-1]).any()):
        raise DataError("episode numbers must increase")
    if not bool(torch.isin(trajectories.episode, numbers).all()):
        raise DataError("some rows belong to an episode that was not recorded")
    steps = trajectories.step
    for name in ("coordinate", "layer", "episodes", "episode_coordinates", "episode_layers"):
        numbers = getattr(trajectories, name)
        if numbers.numel() and int(numbers.min()) < 0:
            raise DataError(f"{name} must not be negative")
    if len(steps) and not 1 <= int(steps.min()) <= int(steps.max()) <= shape[1]:
        raise DataError(f"rows' steps must lie between 1 and {shape[1]}")


def _check_shapes(trajectories: Trajectories, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        found = tuple(getattr(trajectories, name).shape)
        if found != shape:
            raise DataError(f"{name} must have the shape {list(shape)}, not {list(found)}")


def _check_types(trajectories: Trajectories, real: Sequence[str], whole: Sequence[str]) -> None:
    for name in real:
        if getattr(trajectories, name).dtype not in (torch.float32, torch.float64):
            raise DataError(f"{name} must be float32 or float64, not {getattr(trajectories, name).dtype}")
    for name in whole:
        if getattr(trajectories, name).dtype != torch.int64:
            raise DataError(f"{name} must be int64, not {getattr(trajectories, name).dtype}")


def _elements(layer: object) -> int | None:
    """Elements of a tensor that provenance describes; None if it does not say."""
    shape = layer.get("shape") if isinstance(layer, Mapping) else None
    sizes = shape if isinstance(shape, Sequence) and not isinstance(shape, str) else None
    return math.prod(sizes) if sizes is not None and all(isinstance(size, int) for size in sizes) else None
