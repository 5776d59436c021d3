"""Check the values of options: one line that says what a value must be.

Every count, seed and number that a caller passes in goes through here, whatever package the option belongs to.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from closedform._names import unknown_name_message
from closedform.errors import OptionError

D = TypeVar("D")

LARGEST_SEED = 2**63 - 1
"""Generators of torch and numpy alike take seeds up to this one."""


def check_count(option: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise OptionError unless ``value`` is a whole number from ``least`` to ``most`` (None: without end)."""
    if not _is_whole(value) or value < least or (most is not None and value > most):  # type: ignore[operator]
        extent = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"{option} must be a whole number {extent}, not {value!r}")


def check_seed(option: str, value: object) -> None:
    """Raise OptionError unless ``value`` can seed a generator."""
    check_count(option, value, 0, LARGEST_SEED)


def check_number(option: str, value: object, least: float) -> None:
    """Raise OptionError unless ``value`` is a finite number of at least ``least``."""
    if not _is_number(value) or value < least:  # type: ignore[operator]
        raise OptionError(f"{option} must be a finite number of at least {least:g}, not {value!r}")


def check_positive(option: str, value: object) -> None:
    """Raise OptionError unless ``value`` is a finite number above 0."""
    if not _is_number(value) or value <= 0:  # type: ignore[operator]
        raise OptionError(f"{option} must be a finite number above 0, not {value!r}")


def check_share(option: str, value: object, *, zero: bool = False, one: bool = False) -> None:
    """Raise OptionError unless ``value`` lies between 0 and 1; the ends count where ``zero`` and ``one`` say so."""
    inside = _is_number(value) and (0 < value < 1 or (zero and value == 0) or (one and value == 1))  # type: ignore[operator]
    if not inside:
        ends = {(True, True): ", both included", (True, False): " or 0", (False, True): " or 1"}.get((zero, one), "")
        raise OptionError(f"{option} must be a share between 0 and 1{ends}, not {value!r}")


def with_options(defaults: D, options: Mapping[str, Any], what: str = "option", place: str = "") -> D:
    """``defaults``, a dataclass, with some of its fields replaced by what a caller gave by name.

    Args:
        defaults: The options as they are.
        options: Field -> value.
        what: What a field is called where there is none of a name.
        place: What that message begins with.

    Raises:
        OptionError: there is no such option; the message suggests the nearest and lists all.
    """
    known = {field.name: field for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise OptionError(place + unknown_name_message(what, name, known))
    return dataclasses.replace(defaults, **options)  # type: ignore[type-var]


def _is_whole(value: object) -> bool:
    """Whether ``value`` is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False
