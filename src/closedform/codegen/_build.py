"""Compile generated C, once: a cache of shared objects named after everything that determines them.

A fresh machine has a C compiler more often than a C++ one, and for a few hundred lines of C it takes a tenth of a
second. Objects are kept in ``$XDG_CACHE_HOME/closedform/native`` (``~/.cache`` if unset), or, where that cannot be
written or others could write it, in a temporary folder for the life of the process. Each ends in the SHA-256 of
itself, so that a damaged one is noticed and compiled again; deleting the folder is always safe. What nobody used for
long is removed, and what was not used for longest where all together take too much.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from closedform._files import write_atomically
from closedform.errors import OutputError

FLAGS = (
    "-std=gnu11 -O3 -fPIC -shared -fopenmp-simd "
    "-fno-math-errno -fno-trapping-math -ffp-contract=fast -fno-unswitch-loops -fno-tree-pre"
).split()
"""Not -ffast-math: NaN and infinity must be seen, and nothing may flush denormals for the whole process. Partial
redundancy elimination makes branches of conditions that hold for a whole loop, which is then not vectorised."""
PATIENCE = 120
"""Seconds that a compilation may take."""
MAX_DAYS, MAX_MEGABYTES = 90, 256
"""Objects are removed that were not used for so long, or, the oldest first, past that size of all together."""
DIGEST = hashlib.sha256().digest_size
_DAY = 86_400


class NativeUnavailable(Exception):
    """No compiled step can be had here; the text says why, in one line."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler.

    Attributes:
        command: How to call it.
        identity: Changes when the compiler does.
    """

    command: tuple[str, ...]
    identity: str


def load(source: str) -> ctypes.CDLL:
    """The shared object compiled from C source, from the cache if it is there.

    Raises:
        NativeUnavailable: no compiler, it fails, or what it made cannot be loaded.
    """
    if not sys.platform.startswith("linux"):
        raise NativeUnavailable(f"compiled steps are made for Linux, not {sys.platform}")
    compiler = find_compiler()
    name = _key(source, compiler)
    folder = cache_folder()
    if folder is not None:
        try:
            return _load_or_compile(folder / name, source, compiler)
        except (OutputError, OSError):
            pass  # full, read-only or mounted noexec
    try:
        return _load_or_compile(_temporary_folder() / name, source, compiler)
    except (OutputError, OSError) as error:
        raise NativeUnavailable(f"a compiled step cannot be written or loaded ({error})") from None


def find_compiler() -> Compiler:
    """The compiler that ``$CC`` names, or else cc, gcc or clang.

    Raises:
        NativeUnavailable: there is none.
    """
    wanted = os.environ.get("CC", "")
    for candidate in [wanted] if wanted else ["cc", "gcc", "clang"]:
        command = shlex.split(candidate)
        path = shutil.which(command[0]) if command else None
        if path is not None:
            real = os.path.realpath(path)
            about = os.stat(real)
            return Compiler((path, *command[1:]), f"{real} {about.st_size} {about.st_mtime_ns}")
    missing = f"$CC names {wanted!r}, which is not there" if wanted else "there is no C compiler (cc, gcc or clang)"
    raise NativeUnavailable(missing)


def cache_folder() -> Path | None:
    """The user's cache of compiled steps, created if need be; None where it cannot be used safely."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        own = (Path(base) if os.path.isabs(base) else _home() / ".cache") / "closedform"
        folder = own / "native"
        for one in (own, folder):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever can write the folder above could put another in its place.
        return folder if _is_ours(own) and _is_ours(folder) else None
    except (OSError, RuntimeError):
        return None


def _home() -> Path:
    """The user's home, which is not for us to make.

    Raises:
        RuntimeError: there is none.
    """
    home = Path.home()
    if os.environ.get("HOME") == "" or not home.is_absolute() or not home.is_dir():
        raise RuntimeError(f"no home {home}")
    return home


def _is_ours(path: Path) -> bool:
    """Whether this user owns a file or folder, and nobody else can write it."""
    about = path.stat()
    return about.st_uid == os.geteuid() and not about.st_mode & 0o022


def _load_or_compile(path: Path, source: str, compiler: Compiler) -> ctypes.CDLL:
    if _is_whole(path):
        _note_use(path)
    else:
        _compile(path, source, compiler)
        _prune(path.parent, keep=path)
    return ctypes.CDLL(str(path))


def _is_whole(path: Path) -> bool:
    try:
        content = path.read_bytes() if _is_ours(path) else b""
    except OSError:
        return False
    return content[-DIGEST:] == hashlib.sha256(content[:-DIGEST]).digest()


def _note_use(path: Path) -> None:
    """Date an object today, so that it is not removed."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _DAY:
            os.utime(path)


def _prune(folder: Path, keep: Path) -> None:
    """Remove what was not used for long, and the oldest past the size that all may have together; never ``keep``."""
    with contextlib.suppress(OSError):  # another process prunes too
        found = [(path, path.stat()) for path in folder.glob("*.so") if path != keep]
        held, oldest = keep.stat().st_size, time.time() - MAX_DAYS * _DAY
        for path, about in sorted(found, key=lambda one: one[1].st_mtime, reverse=True):
            held += about.st_size
            if about.st_mtime < oldest or held > MAX_MEGABYTES * 2**20:
                path.unlink(missing_ok=True)


def _compile(path: Path, source: str, compiler: Compiler) -> None:
    def write(target: Path) -> None:
        _run_compiler(target, source, compiler)
        digest = hashlib.sha256(target.read_bytes()).digest()
        with target.open("ab") as file:
            file.write(digest)

    write_atomically(path, write)


def _run_compiler(target: Path, source: str, compiler: Compiler) -> None:
    command = [*compiler.command, *FLAGS, _native_flag(), "-x", "c", "-", "-o", str(target), "-lm"]
    name = compiler.command[0]
    try:
        done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise NativeUnavailable(f"the C compiler {name} took more than {PATIENCE} seconds") from None
    except OSError as error:
        raise NativeUnavailable(f"the C compiler {name} does not run ({error.strerror or error})") from None
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
        )
        raise NativeUnavailable(f"the C compiler {name} failed ({lines[0].strip()[:200]})")


def _native_flag() -> str:
    return "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"


def _key(source: str, compiler: Compiler) -> str:
    parts = (source, *FLAGS, _native_flag(), *compiler.command, compiler.identity, _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40] + ".so"


@lru_cache(maxsize=1)
def _processor() -> str:
    """What -march=native depends on, so that a home folder shared by machines is safe."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    telling = ("model", "cpu family", "stepping", "flags", "vendor_id", "CPU", "Features")
    return "\n".join([platform.machine(), *(line for line in lines if line.startswith(telling))])


@lru_cache(maxsize=1)
def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="closedform-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
