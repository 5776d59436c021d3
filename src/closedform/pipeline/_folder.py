"""A run's folder: which stages are finished, and what they took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from closedform._document import Malformed, Many, Name, Seconds, read, shown
from closedform._files import finite, read_json, write_json
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
        before = _object(self.config_path, Mapping[str, Any], "run configuration")
        wanted = finite(config)
        if before != wanted:
            keys = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
            raise CheckpointError(
                f"{self.path} holds a run with other options ({', '.join(shown(key)[1:-1] for key in keys[:10])}); "
                "repeat its options to resume it, or add --overwrite to start again"
            )
        if self._stages_path.exists():
            self.stages = _object(self._stages_path, _Stages, "list of finished stages")


_Stages = Annotated[Mapping[Name, Seconds], Many(100)]


def _object(path: Path, kind: Any, what: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read(read_json(path, what=what), kind)
        return found
    except Malformed as error:
        raise CheckpointError(f"{what} {path} is damaged: {error}; add --overwrite to start again") from None
