"""Tensors on disk: safetensors files, written atomically, and read only after their header has been checked.

safetensors' own parser is safe, but what it accepts (types, names, shapes without elements) is more than anything here
can use, and what it says about the rest helps nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from closedform._document import Count, Line, Malformed, Many, Text, parse_json, read
from closedform._files import write_atomically
from closedform.errors import CheckpointError

MAX_BYTES = 4 * 2**30
MAX_HEADER = 8 * 2**20
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class _Stored:
    """One tensor in the header: its type, its shape, and where its bytes lie."""

    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"]
    shape: Annotated[tuple[Count, ...], Many(8)]
    data_offsets: Annotated[tuple[Count, ...], Many(2)]

    def __post_init__(self) -> None:
        if len(self.data_offsets) != 2 or self.data_offsets[1] - self.data_offsets[0] != self.bytes:
            raise ValueError(f"its bytes do not make up {self.dtype} {list(self.shape)}")

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _SIZES[self.dtype]


_Header = Annotated[Mapping[Annotated[str, Line(300, 1)], _Stored], Many(100_000)]
_Texts = Annotated[Mapping[Annotated[str, Line(100, 1)], Annotated[str, Text(MAX_HEADER)]], Many(100)]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises:
        OutputError: it cannot be written; what was there before is as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(own, temporary, metadata=dict(header))
        except SafetensorError as error:
            raise OSError(str(error).removeprefix("Error while serializing: ")) from error

    write_atomically(path, write)


def read_tensors(path: Path, what: str, limit: int = MAX_BYTES) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors and its header's texts.

    Args:
        path: The file.
        what: What it should be, for messages.
        limit: The most bytes it may have.

    Raises:
        CheckpointError: missing, too large, truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        names, texts = _checked_header(path, limit)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in names}, texts
    except OSError as error:
        raise CheckpointError(f"cannot read {what} {path}: {error.strerror or error}") from None
    except (Malformed, SafetensorError) as error:
        raise CheckpointError(f"{what} {path} is damaged or no safetensors file: {error}") from None


def _checked_header(path: Path, limit: int) -> tuple[list[str], dict[str, str]]:
    size = path.stat().st_size
    if size > limit:
        raise Malformed(f"it has {size} bytes; the limit is {limit}")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise Malformed("it is truncated")
        text = file.read(length)
    try:
        document = parse_json(text.decode())
    except UnicodeDecodeError:
        raise Malformed("its header is no UTF-8 text") from None
    if not isinstance(document, dict):
        raise Malformed("its header is no object")
    texts: dict[str, str] = read(document.pop("__metadata__", {}), _Texts, "header")
    stored: dict[str, _Stored] = read(document, _Header)
    if sum(one.bytes for one in stored.values()) != size - 8 - length:
        raise Malformed("its tensors do not fill it")
    return list(stored), texts
