"""Check the values of options: one line that says what a value must be."""

from __future__ import annotations

import math

from closedform.errors import OptionError


def check_count(option: str, value: object, least: int = 1) -> None:
    """Raise OptionError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(f"{option} must be a whole number of at least {least}, not {value!r}")


def check_number(option: str, value: object, least: float) -> None:
    """Raise OptionError unless ``value`` is a finite number of at least ``least``."""
    if not _is_number(value) or value < least:  # type: ignore[operator]
        raise OptionError(f"{option} must be a finite number of at least {least:g}, not {value!r}")


def check_positive(option: str, value: object) -> None:
    """Raise OptionError unless ``value`` is a finite number above 0."""
    if not _is_number(value) or value <= 0:  # type: ignore[operator]
        raise OptionError(f"{option} must be a finite number above 0, not {value!r}")


def _is_number(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
