"""The rule file as a document: its entries, each with its type and bounds, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from closedform._document import Malformed, Name, Text, Within, parse_json, read, shown
from closedform._names import unknown_name_message
from closedform.errors import RuleError

FORMAT = "closedform.rule/1"
"""Of rules that need nothing newer."""
LATE_FORMAT = "closedform.rule/2"
"""Of rules that read the horizon or a tensor's shape, use matrix operators, or begin with other states than zero."""
FORMATS = (FORMAT, LATE_FORMAT)
MOST_TEXT = 100_000
"""Characters of all expressions of a rule together."""

_Constant: TypeAlias = Annotated[float, Within(-1e300, 1e300)]
_Formula: TypeAlias = Annotated[str, Text(MOST_TEXT, 1)]
_SECTIONS: dict[str, tuple[str, Any]] = {
    "constants": ("constant", _Constant),
    "init": ("init", _Formula),
    "state": ("state", _Formula),
    "where": ("where", _Formula),
}
"""Objects of named entries: what one entry is called, and its type."""
_ENTRIES: dict[str, Any] = {
    "format": str,
    "name": Name,
    "lr": _Constant,
    "constants": Mapping[str, Any],
    "init": Mapping[str, Any],
    "state": Mapping[str, Any],
    "where": Mapping[str, Any],
    "update": _Formula,
    "provenance": Mapping[str, Any],
    "results": Mapping[str, Any],
}
"""All entries, with their types."""
_REQUIRED = ("format", "name", "update")


def parse_document(text: str) -> Any:
    """A rule file's text as JSON.

    Raises:
        RuleError: it is not JSON, or names an entry twice.
    """
    try:
        return parse_json(text, nan=False)
    except Malformed as error:
        raise RuleError(f"not a rule file: {error}") from None


def checked(document: Any) -> dict[str, Any]:
    """A rule's document, of which every entry has its type and keeps its bounds; expressions are still text.

    Raises:
        RuleError: it is not so; names the rule and the place.
    """
    if not isinstance(document, dict):
        raise RuleError(f"not a rule file: expected a JSON object, found {type(document).__name__}")
    try:
        name: str = read(document.get("name"), Name)
    except Malformed as error:
        raise RuleError(f'a rule needs a "name": it {error}') from None
    _check_keys(document, f'rule "{name}"')
    try:
        found = {key: read(value, _ENTRIES[key], key) for key, value in document.items()}
        for section, (entry, kind) in _SECTIONS.items():
            values = found.get(section, {})
            found[section] = {key: read(item, kind, f"{entry} {_quoted(key)}") for key, item in values.items()}
    except Malformed as error:
        raise RuleError(f'rule "{name}", {error}') from None
    _check_length(found, name)
    return found


def _check_keys(document: Mapping[str, Any], place: str) -> None:
    found = document.get("format")
    if found not in FORMATS:
        readable = " and ".join(map(repr, FORMATS))
        raise RuleError(f"{place}: format {shown(found)} cannot be read; this version of closedform reads {readable}")
    for key in _REQUIRED:
        if key not in document:
            raise RuleError(f'{place}: "{key}" is missing')
    for key in document:
        if key not in _ENTRIES:
            raise RuleError(f"{place}: {unknown_name_message('entry', key, _ENTRIES)}")


def _check_length(found: Mapping[str, Any], name: str) -> None:
    texts = [text for key, (_, kind) in _SECTIONS.items() if kind is _Formula for text in found[key].values()]
    length = len(found["update"]) + sum(len(text) for text in texts)
    if length > MOST_TEXT:
        raise RuleError(f'rule "{name}": its expressions have {length} characters; the limit is {MOST_TEXT}')


def _quoted(name: str) -> str:
    return f'"{shown(name)[1:-1]}"'
