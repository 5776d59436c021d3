"""Read IDX files, the format of MNIST: two zero bytes, a type, the number of axes, their lengths, then the numbers.

Only unsigned bytes (type 0x08) are read. The file is untrusted: lengths are checked against a limit before anything of
their size is read, so neither a wrong header nor a gzip bomb can fill the memory.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from closedform.errors import DataError

_UNSIGNED_BYTE = 0x08
_MOST_AXES = 4
_LIMIT = 64 * 2**20  # bytes; MNIST's largest file holds 45 MiB
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path, *, limit: int = _LIMIT) -> tuple[Tensor, str]:
    """Read an IDX file of unsigned bytes, plain or gzipped (told apart by content, not by name).

    Args:
        path: The file.
        limit: The most numbers it may hold.

    Returns:
        The array, uint8, in the file's shape; and the SHA-256 of the uncompressed file, in hexadecimal.

    Raises:
        DataError: the file cannot be read, is truncated, too long, too large, or no IDX file of unsigned bytes.
    """
    try:
        with _open(path) as stream:
            header, shape = _read_header(stream, path, limit)
            # One byte more than announced: that finds trailing bytes, and makes gzip compare its checksum.
            body = bytearray(stream.read(math.prod(shape) + 1))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(body) != math.prod(shape):
        _raise_wrong_length(path, len(body), shape)
    return torch.frombuffer(body, dtype=torch.uint8).view(shape), hashlib.sha256(header + body).hexdigest()


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        compressed = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def _read_header(stream: BinaryIO, path: Path, limit: int) -> tuple[bytes, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path} is truncated: it ends within its 4-byte magic number; fetch it again")
    if magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not 1 <= magic[3] <= _MOST_AXES:
        raise DataError(f"{path} is not an IDX file of unsigned bytes: its magic number is 0x{magic.hex()}")
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError(f"{path} is truncated: it ends within its {4 + 4 * magic[3]}-byte header; fetch it again")
    shape = struct.unpack(f">{magic[3]}I", lengths)
    if not 1 <= math.prod(shape) <= limit:
        raise DataError(f"{path} claims to hold {_times(shape)} numbers; 1 to {limit} are possible here")
    return magic + lengths, shape


def _raise_wrong_length(path: Path, length: int, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    if length < size:
        raise DataError(f"{path} is truncated: {_times(shape)} numbers announced, {length} there; fetch it again")
    raise DataError(f"{path} has more bytes than the {_times(shape)} numbers that its header announces")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
