"""Documents from strangers: what does not fit its description is refused with the place, in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from closedform._document import MAX_DEPTH, Count, Line, Malformed, Many, Name, Text, Within, parse_json, read, shown
from closedform._tensors import read_tensors, write_tensors
from closedform.errors import CheckpointError


@dataclass(frozen=True)
class Inner:
    name: Name
    share: Annotated[float, Within(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    count: Count
    flag: bool
    note: Annotated[str, Text(5)] | None
    inner: tuple[Inner, ...]
    by_name: Annotated[Mapping[Annotated[str, Line(3)], int], Many(2)]

    def __post_init__(self) -> None:
        if self.count < len(self.inner):
            raise ValueError("there are more of them than counted")


GOOD: dict[str, Any] = {
    "kind": "a",
    "count": 2,
    "flag": True,
    "note": None,
    "inner": [{"name": "x"}, {"name": "y", "share": 1}],
    "by_name": {"k": -3},
}


def test_what_fits_is_read() -> None:
    found = read(parse_json(json.dumps(GOOD)), Outer)
    assert found == Outer("a", 2, True, None, (Inner("x"), Inner("y", 1.0)), {"k": -3})
    assert isinstance(found.inner[1].share, float)
    assert read(json.loads(json.dumps(asdict(found))), Outer) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "c"}, "kind: must be 'a' or 'b', not 'c'"),
        ({"kind": ["a"]}, "kind: must be 'a' or 'b', not a list"),
        ({"count": True}, "count: must be a whole number"),
        ({"count": 2.0}, "count: must be a whole number"),
        ({"count": -1}, "count: must be a whole number from 0"),
        ({"flag": 1}, "flag: must be true or false, not 1"),
        ({"note": "longer"}, "note: must be text of 0 to 5 characters"),
        ({"inner": {}}, "inner: must be a list"),
        ({"inner": [{"name": "x", "share": 1.5}]}, r"inner\[0\].share: must be a finite number from 0 to 1, not 1.5"),
        ({"inner": [{"name": "a\nb"}]}, r"inner\[0\].name: must be text .* printable .* not 'a\\nb'"),
        ({"inner": [{}]}, r'inner\[0\]: "name" is missing'),
        ({"inner": [{"name": "x", "\x1b": 1}]}, r"inner\[0\]: unknown entry '\\x1b'"),
        ({"inner": [{"name": "x"}] * 3}, "there are more of them than counted"),
        ({"by_name": {"a": 1, "b": 2, "c": 3}}, "by_name: must be an object {name: value} of at most 2 entries"),
        ({"by_name": {"long": 1}}, "by_name.a name: must be text of 0 to 3 printable characters, not 'long'"),
        ({"by_name": {"a": None}}, "by_name.'a': must be a whole number, not None"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=f"^{message}") as caught:
        read({**GOOD, **change}, Outer)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ('{"a": 1e999}', "is too large"),
        ("9" * 5000, "of 5000 characters is too large"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested more than"),
        ("[" * 100_000, "nested more than"),
        ("{", "invalid JSON"),
    ],
)
def test_what_is_no_such_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        parse_json(text)


def test_nan_is_null_or_refused() -> None:
    assert parse_json("[NaN, -Infinity]") == [None, None]
    with pytest.raises(Malformed, match="NaN is not a finite number"):
        parse_json("[NaN]", nan=False)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=9))
def test_any_value_is_shown_on_one_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= 4 * 60 + 2 or isinstance(value, str)


# ------------------------------------------------------------------------------------------------------- tensors


def _file(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def test_tensors_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.tensor(True), "c": torch.zeros(0, 3).bfloat16()}
    write_tensors(tmp_path / "t", tensors, {"note": "x"})
    found, texts = read_tensors(tmp_path / "t", "file")
    assert texts == {"note": "x"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in tensors.items())


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "body", "length", "message"),
    [
        ({"a": F32}, b"1234", None, "do not fill it"),
        ({"a": F32, "b": F32}, b"12345678", None, "do not fill it"),
        ({"a": {**F32, "shape": [3]}}, b"12345678", None, r"its bytes do not make up F32 \[3\]"),
        ({"a": {**F32, "shape": [2**40, 2**40]}}, b"12345678", None, "its bytes do not make up"),
        ({"a": {**F32, "dtype": "F8_E5M2"}}, b"12345678", None, "'a'.dtype: must be"),
        ({"a": {**F32, "shape": [-2]}}, b"12345678", None, "'a'.shape"),
        ({"a\n": F32}, b"12345678", None, "a name: must be"),
        ({"__metadata__": {"x": 1}}, b"", None, "header.*must be text"),
        ([], b"", None, "its header is no object"),
        (b"\xff\xfe", b"", None, "no UTF-8 text"),
        (b"[" * 5000, b"", None, "nested more than"),
        ({}, b"", 2**60, "truncated"),
        ({}, b"", 0, "invalid JSON"),
    ],
)
def test_damaged_tensors_are_refused(tmp_path: Path, header, body: bytes, length: int | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^thing .* is damaged or no safetensors file: .*{message}"):
        read_tensors(_file(tmp_path / "t", header, body, length), "thing")


def test_tensors_past_the_limit_or_missing(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t", {"a": torch.zeros(100)}, {})
    with pytest.raises(CheckpointError, match="the limit is 100"):
        read_tensors(tmp_path / "t", "thing", limit=100)
    with pytest.raises(CheckpointError, match="cannot read thing .*: No such file"):
        read_tensors(tmp_path / "missing", "thing")
