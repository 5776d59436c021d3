"""Real text that needs no download: the source of the Python standard library, byte by byte.

A fixed list of its modules is read, in a fixed order; they are there in every Python from 3.10 on, but what is written
in them depends on Python's version. They are dealt out to the splits whole, so that no split holds text of another's.
The alphabet is the newline, the printable ASCII characters, and one sign for every other byte.

Source: Python Software Foundation, the CPython project.
"""

from __future__ import annotations

import functools
import itertools
import platform
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from closedform.errors import DataError

MODULES = tuple(
    "argparse ast base64 bdb calendar cmd code codecs configparser contextlib copy csv dataclasses difflib dis doctest "
    "enum filecmp fileinput fractions ftplib functools gettext gzip heapq imaplib inspect ipaddress locale mailbox "
    "mimetypes modulefinder optparse os pdb pickle pickletools pkgutil platform plistlib poplib pprint pstats pydoc "
    "queue random sched selectors shelve shlex shutil smtplib socket socketserver ssl statistics subprocess tarfile "
    "tempfile textwrap threading timeit tokenize trace traceback types typing uuid wave weakref webbrowser".split()
)
_DEALT = ("train", "eval", "train", "eval", "test")  # module after module, over and over
_MOST = 2**20  # bytes a module; the largest has an eighth of it

_CHARACTERS = b"\n" + bytes(range(32, 127))
_NUMBERS = bytes(_CHARACTERS.find(byte) % (len(_CHARACTERS) + 1) for byte in range(256))  # not found: -1, so the last
ALPHABET = len(_CHARACTERS) + 1
"""The number of signs."""


def modules(split: str) -> list[str]:
    """The modules whose source makes up a split."""
    return [name for name, dealt in zip(MODULES, itertools.cycle(_DEALT)) if dealt == split]


class PythonSource:
    """The source of the standard library of the Python that runs.

    Attributes:
        data: What it is, in a word or two.
        reference: Where it comes from, and how much of it there is.

    Args:
        folder: Where the library lies; None for that of this Python.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
        self.data = f"Python {'.'.join(platform.python_version_tuple()[:2])} source"
        sizes = ", ".join(f"{split} {self._size(split)} bytes" for split in dict.fromkeys(_DEALT))
        version = platform.python_version()
        self.reference = f"text: Python's standard library, which depends on its version ({version} here: {sizes})"

    def available(self) -> str | None:
        """None if all modules' source is there, else one line that says which is not."""
        absent = [name for name in MODULES if not self._path(name).is_file()]
        if not absent:
            return None
        return (
            f"the standard library's source is not in {self.folder} ({absent[0]}.py and {len(absent) - 1} more of "
            f"{len(MODULES)} missing): install Python with its .py files"
        )

    @functools.cached_property
    def texts(self) -> dict[str, Tensor]:
        """Each split's text, [bytes] uint8: each byte's place in the alphabet."""
        return {split: torch.cat([self._read(name) for name in modules(split)]) for split in dict.fromkeys(_DEALT)}

    def _size(self, split: str) -> int:
        paths = [self._path(name) for name in modules(split)]
        return sum(path.stat().st_size for path in paths if path.is_file())

    def _read(self, name: str) -> Tensor:
        path = self._path(name)
        try:
            with path.open("rb") as stream:
                text = stream.read(_MOST + 1)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        if not 0 < len(text) <= _MOST:
            raise DataError(f"{path} is not a module of the standard library: it is empty or larger than {_MOST} bytes")
        return encode(text.replace(b"\r\n", b"\n"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.py"


def encode(text: bytes) -> Tensor:
    """Each byte's place in the alphabet, [bytes] uint8."""
    return torch.frombuffer(bytearray(text.translate(_NUMBERS)), dtype=torch.uint8)


def decode(places: Tensor) -> str:
    """The inverse of ``encode``; the sign for all other bytes becomes U+FFFD."""
    return "".join((_CHARACTERS.decode() + "\ufffd")[place] for place in places.tolist())
