"""Recordings on disk: one safetensors file, with the columns, the program and the provenance in its header.

A file is untrusted input: its size and its header's are bounded, the program is read by the language's own parser, and
all shapes are checked before anything is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from torch import Tensor

from closedform._document import Count, Malformed, Many, Name, Text, Within, parse_json, read, shown
from closedform._files import finite
from closedform._tensors import read_tensors, write_tensors
from closedform.errors import CheckpointError, ClosedFormError
from closedform.lang import Program, parse, to_text
from closedform.trajectories._columns import MAX_LAG, Column

FORMAT = "closedform.trajectories/1"


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    tensors: Mapping[str, Tensor]
    columns: tuple[Column, ...]
    source: Program
    provenance: Mapping[str, Any]


def write(path: Path, content: Content) -> None:
    """Write a recording, atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    header = {
        "format": FORMAT,
        "columns": json.dumps([[column.feature, column.lag] for column in content.columns]),
        "source": json.dumps(_program_document(content.source)),
        "provenance": json.dumps(finite(dict(content.provenance))),
    }
    write_tensors(path, dict(content.tensors), header)


def read_content(path: Path, names: Sequence[str]) -> Content:
    """Read a recording, whose tensors are to have these names.

    Raises:
        CheckpointError: the file is missing, too large, damaged or of another format version.
    """
    tensors, header = read_tensors(path, "recording")
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a recording in the format {FORMAT!r} (it says {shown(header.get('format'))})"
        )
    missing = {*names} - tensors.keys()
    if missing:
        raise CheckpointError(f"recording {path} lacks {', '.join(sorted(missing))}; record again")
    try:
        return _content({name: tensors[name] for name in names}, header)
    except (ClosedFormError, Malformed) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file whose content does not fit together."""
    return CheckpointError(f"recording {path} is damaged: {error}; record again")


_Formulas: TypeAlias = Annotated[Mapping[Name, Annotated[str, Text(20_000, 1)]], Many(1000)]


@dataclass(frozen=True)
class _Source:
    """The program in the header: as in a rule file, with several outputs."""

    constants: Annotated[Mapping[Name, Annotated[float, Within(-1e300, 1e300)]], Many(1000)]
    state: _Formulas
    where: _Formulas
    outputs: _Formulas
    init: _Formulas = field(default_factory=dict)

    def program(self) -> Program:
        sections = (self.state, self.where, self.outputs, self.init)
        return Program(self.constants, *({name: parse(text) for name, text in one.items()} for one in sections))


_Columns: TypeAlias = Annotated[tuple[tuple[Any, ...], ...], Many(10_000)]
_PROVENANCE: dict[str, Any] = {
    "tasks": tuple[Name, ...],
    "episodes": tuple[Mapping[str, Any], ...],
    "layers": tuple[Mapping[str, Any], ...],
}
"""Entries of the provenance that are relied on, if they are there."""
_EPISODE: dict[str, Any] = {"number": Count, "task": Name}
_LAYER: dict[str, Any] = {"task": Name, "name": Name, "shape": tuple[Count, ...]}


def _content(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Content:
    parts = {name: parse_json(header.get(name, "null")) for name in ("columns", "provenance", "source")}
    pairs: tuple[tuple[Any, ...], ...] = read(parts["columns"], _Columns, "columns")
    columns = tuple(_column(pair, f"columns[{index}]") for index, pair in enumerate(pairs))
    source: _Source = read(parts["source"], _Source, "source")
    _check_provenance(read(parts["provenance"], Mapping[str, Any], "provenance"))
    if not all(tensors["gradients"].shape):
        raise Malformed("it holds no episode")
    return Content(tensors, columns, source.program(), parts["provenance"])


def _column(pair: tuple[Any, ...], place: str) -> Column:
    if len(pair) != 2:
        raise Malformed(f"{place}: must be a name and a lag")
    return Column(read(pair[0], Name, place), read(pair[1], Annotated[int, Within(0, MAX_LAG)], place))


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    for key, kind in _PROVENANCE.items():
        read(provenance.get(key, []), kind, f"provenance.{key}")
    for key, described in (("episodes", _EPISODE), ("layers", _LAYER)):
        for index, row in enumerate(provenance.get(key, [])):
            for name, kind in described.items():
                read(row.get(name), kind, f"provenance.{key}[{index}].{name}")


def _program_document(program: Program) -> dict[str, dict[str, Any]]:
    names = ("state", "where", "outputs", *(["init"] if program.init else []))
    sections = {name: getattr(program, name) for name in names}
    texts = {name: {key: to_text(expr) for key, expr in section.items()} for name, section in sections.items()}
    return {"constants": dict(program.constants), **texts}
