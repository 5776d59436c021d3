"""Recordings on disk: one safetensors file, with the columns, the program and the provenance in its header.

A file is untrusted input: its size and its header's are bounded, the program is read by the language's own parser, and
all shapes are checked before anything is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from closedform._files import write_atomically
from closedform.errors import CheckpointError, ClosedFormError
from closedform.lang import Program, parse, to_text
from closedform.trajectories._columns import Column
from closedform.trajectories._trajectories import Trajectories

FORMAT = "closedform.trajectories/1"
MAX_BYTES = 4 * 2**30
MAX_HEADER = 8 * 2**20
_TENSORS = tuple(entry.name for entry in fields(Trajectories) if entry.type == "Tensor")


def save_trajectories(trajectories: Trajectories, path: str | Path) -> Path:
    """Write a recording, atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    tensors = {name: getattr(trajectories, name).contiguous() for name in _TENSORS}
    header = {
        "format": FORMAT,
        "columns": json.dumps([[column.feature, column.lag] for column in trajectories.columns]),
        "source": json.dumps(_program_document(trajectories.source)),
        "provenance": json.dumps(dict(trajectories.provenance)),
    }
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    return path


def load_trajectories(path: str | Path) -> Trajectories:
    """Read a recording.

    Raises:
        CheckpointError: the file is missing, too large, damaged, of another format version, or does not fit together.
    """
    path = Path(path)
    _check_sizes(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                found = str(header.get("format"))[:60]
                raise CheckpointError(f"{path} is not a recording in the format {FORMAT!r} (it says {found!r})")
            missing = set(_TENSORS) - set(file.keys())
            if missing:
                raise CheckpointError(f"recording {path} lacks {', '.join(sorted(missing))}; record again")
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        return _assemble(tensors, header)
    except CheckpointError:
        raise
    except ClosedFormError as error:
        raise CheckpointError(f"recording {path}: {error}") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"recording {path} is damaged ({str(error)[:120]}); record again") from None


def _check_sizes(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise CheckpointError(f"cannot read recording {path}: {error.strerror or error}") from None
    if size > MAX_BYTES:
        raise CheckpointError(f"recording {path} has {size} bytes; the limit is {MAX_BYTES}")
    if size < 8 or header > min(MAX_HEADER, size - 8):
        raise CheckpointError(f"recording {path} is truncated or not a safetensors file; record again")


def _assemble(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Trajectories:
    columns = tuple(Column(str(feature), _whole(lag)) for feature, lag in json.loads(header["columns"]))
    provenance = json.loads(header["provenance"])
    if not isinstance(provenance, dict):
        raise ValueError("the provenance is not an object")
    for name, tensor in tensors.items():
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} has the type {tensor.dtype}")
    source = _read_program(json.loads(header["source"]))
    return Trajectories(columns=columns, source=source, provenance=provenance, **tensors)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"a lag must be a whole number, not {value!r}")
    return value


def _program_document(program: Program) -> dict[str, dict[str, Any]]:
    sections = {name: getattr(program, name) for name in ("state", "where", "outputs")}
    texts = {name: {key: to_text(expr) for key, expr in section.items()} for name, section in sections.items()}
    return {"constants": dict(program.constants), **texts}


def _read_program(document: Any) -> Program:
    sections = [
        {str(key): parse(text) for key, text in document[name].items()} for name in ("state", "where", "outputs")
    ]
    constants = {str(key): float(value) for key, value in document["constants"].items()}
    return Program(constants, *sections)
