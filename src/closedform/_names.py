"""Look a member of a family up by name, with a helpful error when there is none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from closedform.errors import UnknownNameError

T = TypeVar("T")


def lookup(family: str, name: str, members: Mapping[str, T]) -> T:
    """Return ``members[name]``.

    Args:
        family: What a member is called, in the singular ("task"); used in the message.
        name: The name asked for.
        members: The family's table.

    Raises:
        UnknownNameError: there is no such member; the message suggests the nearest and lists all.
    """
    try:
        return members[name]
    except KeyError:
        raise UnknownNameError(unknown_name_message(family, name, members)) from None


def unknown_name_message(family: str, name: str, known: Mapping[str, T]) -> str:
    """One line: what is unknown, the nearest known name if one is near, and all known names."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {family} {name!r}: {hint}known: {', '.join(sorted(known))}"
