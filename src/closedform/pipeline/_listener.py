"""Who hears how a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Listener(Protocol):
    """Hears how a run goes on."""

    def stage(self, name: str) -> None:
        """A stage begins; ``name`` is in `STAGES`."""

    def progress(self, done: int, total: int, text: str) -> None:
        """The stage is at ``done`` of ``total``."""

    def record(self, record: Mapping[str, Any]) -> None:
        """The numbers of a step of meta-training."""

    def result(self, text: str) -> None:
        """One line on what a stage found."""


class Silent:
    """A listener that says nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int, text: str) -> None:
        """Nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def result(self, text: str) -> None:
        """Nothing."""
