"""A run's folder: which stages are finished, and what they took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from closedform._files import read_json, write_json
from closedform.errors import CheckpointError, OptionError


class Folder:
    """The folder of one run.

    Args:
        path: The folder; made if it is not there.
        config: The run's options as plain JSON values.
        resume: Continue the run that is there.
        overwrite: Start again where there is one.

    Raises:
        OptionError: a run is there, and neither ``resume`` nor ``overwrite`` says what to do.
        CheckpointError: the run there had other options.
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: Path, config: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        self.path = path
        self.stages: dict[str, float] = {}
        exists = self.config_path.exists()
        if exists and not resume and not overwrite:
            raise OptionError(f"{path} holds a run already; add --resume to continue it, or --overwrite to start again")
        if exists and resume and not overwrite:
            self._load(config)
        else:
            self.resume = False
            write_json(self._stages_path, {})
            write_json(self.config_path, config)

    @property
    def config_path(self) -> Path:
        """The run's options."""
        return self.path / "config.json"

    @property
    def _stages_path(self) -> Path:
        return self.path / "stages.json"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return stage in self.stages

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; it counts as finished, with its seconds, when the block ends without an error."""
        start = time.monotonic()
        yield
        self.stages[name] = round(time.monotonic() - start, 2)
        write_json(self._stages_path, self.stages)

    def _load(self, config: dict[str, Any]) -> None:
        self.resume = True
        before = read_json(self.config_path, what="run configuration")
        wanted = _as_json(config)
        if before != wanted:
            keys = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
            raise CheckpointError(
                f"{self.path} holds a run with other options ({', '.join(keys)}); "
                "repeat its options to resume it, or add --overwrite to start again"
            )
        if self._stages_path.exists():
            self.stages = dict(read_json(self._stages_path, what="list of finished stages"))


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value
