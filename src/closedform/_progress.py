"""How long work says how far it is: one protocol, whatever the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with what is done, what there is to do in all, and a few words on where it stands."""
OnRecord: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Called with the numbers of a step, as they are kept; what long training offers besides."""


def shown(value: float | None) -> str:
    """A loss in a few digits."""
    return "not finite" if value is None else f"{value:.4g}"
