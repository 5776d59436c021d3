"""Documents from strangers: JSON whose shape is described once, by types with bounds, and checked when it is read.

    @dataclass(frozen=True)
    class Point:
        name: Annotated[str, Text(40)]
        x: Annotated[float, Within(0, 1)]

    read(parse_json(text), Point)

What `read` returns fits the description, so nothing behind it has to check again. A number is finite, a whole number is
no truth value, a name is one printable line; entries that are missing or unknown are refused. What the description
cannot say (two lists of one length) a dataclass checks in its ``__post_init__``, by raising a ValueError.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from closedform.errors import one_line

MAX_DEPTH = 64
"""Objects and lists in each other."""
_LONGEST_WHOLE = 20
"""Characters of a whole number: 64 bits."""

T = TypeVar("T")
Reader: TypeAlias = Callable[[Any, str], Any]


class Malformed(ValueError):
    """A document is not as described; the text names the place. Callers turn it into an error of the package."""


@dataclass(frozen=True)
class Within:
    """Bounds of a number."""

    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True)
class Text:
    """The most characters of a text, and the fewest."""

    most: int = 200
    least: int = 0


@dataclass(frozen=True)
class Line(Text):
    """A text of printable characters: it cannot break out of the line that it is shown in."""


@dataclass(frozen=True)
class Many:
    """The most entries of a list or an object."""

    most: int = 100_000


Count: TypeAlias = Annotated[int, Within(0, 2**53)]
Name: TypeAlias = Annotated[str, Line(200, 1)]
Seconds: TypeAlias = Annotated[float, Within(0, 1e12)]


def shown(value: object, limit: int = 60) -> str:
    """A value from a file as it may stand in a message: quoted, escaped, on one line, cut to a length."""
    if isinstance(value, str):
        return repr(value if len(value) <= limit else value[: limit - 3] + "...")
    if isinstance(value, (dict, list)):
        return {dict: "an object", list: "a list"}[type(value)]
    return one_line(f"{value!r}", limit)


def parse_json(text: str, *, nan: bool = True) -> Any:
    """Parse JSON: no entry twice, no endless nesting, no number past 64 bits or floats.

    Args:
        text: The text.
        nan: Read NaN and Infinity, which some writers use, as null; otherwise they are refused.

    Raises:
        Malformed: it is not such JSON.
    """
    try:
        constant = (lambda _: None) if nan else _refuse_constant
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=constant, parse_int=_whole, parse_float=_real
        )
    except Malformed:
        raise
    except RecursionError:
        raise Malformed(f"invalid JSON: nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise Malformed(f"invalid JSON ({str(error)[:120]})") from None
    _check_depth(value)
    return value


def read(value: Any, kind: Any, place: str = "") -> Any:
    """What a JSON value says, as a value of the type ``kind``.

    Args:
        value: From `parse_json`.
        kind: bool, int, float, str, None, Any, Literal, X | None, tuple[X, ...], list[X], Mapping[str, X], a dataclass
            of these, or Annotated with `Within`, `Text`, `Line` or `Many`.
        place: Where the value stands in its document; opens the message.

    Raises:
        Malformed: it does not fit.
    """
    return _reader(kind)(value, place)


@cache
def _reader(kind: Any, *bounds: Any) -> Reader:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _reader(inner[0], *inner[1:])
    if kind is Any:
        return lambda value, place: value
    if origin is Literal:
        return _choice(inner)
    if origin in (Union, types.UnionType):
        return _optional(inner)
    if origin in (tuple, list):
        return _sequence(origin, _reader(inner[0]), _bound(bounds, Many))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(inner[0]), _reader(inner[1]), _bound(bounds, Many))
    if is_dataclass(kind):
        return _record(kind)
    if kind in (int, float):
        return _number(kind, _bound(bounds, Within))
    return {bool: _truth, str: _text(_bound(bounds, Text))}[kind]


def _bound(bounds: tuple[Any, ...], kind: type[T]) -> T:
    return next((bound for bound in bounds if isinstance(bound, kind)), kind())


def _number(kind: type, bound: Within) -> Reader:
    what = "a whole number" if kind is int else "a finite number"
    if bound != Within():
        what += f" from {bound.least:g} to {bound.most:g}"

    def read_number(value: Any, place: str) -> Any:
        fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if not fits or not (bound.least <= value <= bound.most and (kind is int or abs(value) <= 1.7e308)):
            raise _misfit(place, what, value)
        return kind(value)

    return read_number


def _text(bound: Text) -> Reader:
    line = isinstance(bound, Line)
    what = f"text of {bound.least} to {bound.most}{' printable' * line} characters"

    def read_text(value: Any, place: str) -> str:
        if not isinstance(value, str) or not bound.least <= len(value) <= bound.most:
            raise _misfit(place, what, value)
        if line and not value.isprintable():
            raise _misfit(place, what, value)
        return value

    return read_text


def _truth(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _misfit(place, "true or false", value)
    return value


def _choice(choices: tuple[Any, ...]) -> Reader:
    def read_choice(value: Any, place: str) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise _misfit(place, " or ".join(repr(choice) for choice in choices), value)
        return value

    return read_choice


def _optional(inner: tuple[Any, ...]) -> Reader:
    rest = [_reader(kind) for kind in inner if kind is not types.NoneType]
    if len(rest) != 1:
        raise TypeError(f"only X | None can be described, not {inner}")
    return lambda value, place: None if value is None else rest[0](value, place)


def _sequence(made: Callable[[Any], Any], inner: Reader, bound: Many) -> Reader:
    def read_sequence(value: Any, place: str) -> Any:
        if not isinstance(value, list) or len(value) > bound.most:
            raise _misfit(place, f"a list of at most {bound.most} entries", value)
        return made(inner(item, f"{place}[{index}]") for index, item in enumerate(value))

    return read_sequence


def _mapping(key: Reader, inner: Reader, bound: Many) -> Reader:
    def read_mapping(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > bound.most:
            raise _misfit(place, f"an object {{name: value}} of at most {bound.most} entries", value)
        return {key(name, _at(place, "a name")): inner(item, _at(place, shown(name))) for name, item in value.items()}

    return read_mapping


@cache
def _entries(kind: Any) -> dict[str, Reader]:
    hints = get_type_hints(kind, include_extras=True)
    return {entry.name: _reader(hints[entry.name]) for entry in fields(kind) if entry.init}


def _record(kind: Any) -> Reader:
    needed = [
        entry.name
        for entry in fields(kind)
        if entry.init and entry.default is MISSING and entry.default_factory is MISSING
    ]

    def read_record(value: Any, place: str) -> Any:
        readers = _entries(kind)  # not before: a kind may hold others of its own
        if not isinstance(value, dict):
            raise _misfit(place, f"an object with {', '.join(needed)}", value)
        if missing := [name for name in needed if name not in value]:
            raise Malformed(_said(place, f'"{missing[0]}" is missing'))
        if unknown := [name for name in value if name not in readers]:
            raise Malformed(_said(place, f"unknown entry {shown(unknown[0])}"))
        found = {name: readers[name](item, _at(place, name)) for name, item in value.items()}
        try:
            return kind(**found)
        except Malformed:
            raise
        except ValueError as error:
            raise Malformed(_said(place, str(error))) from None

    return read_record


def _misfit(place: str, what: str, value: Any) -> Malformed:
    return Malformed(_said(place, f"must be {what}, not {shown(value)}"))


def _said(place: str, text: str) -> str:
    return f"{place}: {text}" if place else text


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"{shown(twice)} appears twice in one object")
    return result


def _refuse_constant(text: str) -> float:
    raise Malformed(f"{text} is not a finite number")


def _whole(text: str) -> int:
    if len(text) > _LONGEST_WHOLE:
        raise Malformed(f"the number {text[:12]}... of {len(text)} characters is too large")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Malformed(f"the number {shown(text[:40])} is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [item for item in level if isinstance(item, (dict, list))]
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise Malformed(f"invalid JSON: nested more than {MAX_DEPTH} deep")
