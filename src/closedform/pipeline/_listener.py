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

    def result(self, text: str) -> None:
        """One line on what a stage found."""


class Silent:
    """A listener that says nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int, text: str) -> None:
        """Nothing."""

    def result(self, text: str) -> None:
        """Nothing."""


def meta_step(listener: Listener, record: Mapping[str, Any], total: int, done: int = 0) -> None:
    """Tell of a record of meta-training, after ``done`` steps of earlier ones."""
    loss = record.get("validation", record.get("loss"))
    listener.progress(done + int(record["step"]), total, f"loss {shown(loss)}")


def shown(value: float | None) -> str:
    """A loss in a few digits."""
    return "not finite" if value is None else f"{value:.4g}"
