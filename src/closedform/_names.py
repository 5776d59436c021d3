"""Look a member of a family up by name, with a helpful error when there is none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from closedform._document import shown
from closedform.errors import UnknownNameError

T = TypeVar("T")
_LONGEST = 200
"""Characters of a name that is compared with the known ones: a file may hold one of a million."""


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
    near = difflib.get_close_matches(name, list(known), n=1) if len(name) <= _LONGEST else []
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {family} {shown(name)}: {hint}known: {', '.join(sorted(known))}"
