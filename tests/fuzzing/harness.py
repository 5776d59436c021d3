"""Runs one kind of file through its mutations, in this process, and counts what must not be."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from closedform.errors import ClosedFormError

SECONDS, MEGABYTES = 1.0, 200
"""What opening and using one file may take, of the processor's time, and beyond what the process has."""
PATIENCE, CEILING = 20.0, 4 * 2**30
"""Seconds of the processor after which a file is given up, and bytes past which it gets no more memory."""
_LONGEST = 4000


class TooSlow(BaseException):
    """A file was given up."""


class Nonsense(AssertionError):
    """What was accepted is not what a good file can hold."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        seeds: Good files, and how to damage each.
        check: Opens a file and uses what is in it. Raises ClosedFormError where it refuses, `Nonsense` where it should.
        place: Where to put the file, in a folder that is otherwise as it should be.
    """

    seeds: list[tuple[bytes, Callable[[Random, bytes], bytes]]]
    check: Callable[[Path], None]
    place: Path | list[Path]


@dataclass
class Counts:
    """What came of a kind's files."""

    files: int = 0
    accepted: int = 0
    refused: int = 0
    foreign: int = 0
    messages: int = 0
    slow: int = 0
    large: int = 0
    nonsense: int = 0
    usual: float = 0.0
    """Seconds that a good file takes; those of the others are counted beyond it."""
    slowest: float = 0.0
    largest: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)
    """The first of each sort: what it was, and where."""

    @property
    def bad(self) -> int:
        """All that must not be."""
        return self.foreign + self.messages + self.slow + self.large + self.nonsense

    def __str__(self) -> str:
        return (
            f"{self.files} files: {self.refused} refused, {self.accepted} accepted; {self.foreign} foreign errors, "
            f"{self.messages} messages of several lines, {self.slow} over {SECONDS:g} s (most {self.slowest:.2f} s), "
            f"{self.large} over {MEGABYTES} MB (most {self.largest:.0f} MB), {self.nonsense} accepted nonsense"
        )


def fuzz(kind: Kind, count: int, seed: int, keep: Path | None = None) -> Counts:
    """Open ``count`` damaged files of a kind, drawn from ``seed``; those at fault are kept in a folder, if given."""
    targets = kind.place if isinstance(kind.place, list) else [kind.place]
    pairs = [(targets[place % len(targets)], good, spoil) for place, (good, spoil) in enumerate(kind.seeds)]
    with _bounded():
        for target, good, _ in pairs:  # the good ones first, which also warms everything up
            _open(kind, target, good, Counts())
        usual = Counts()
        for target, good, _ in pairs:
            fault = _open(kind, target, good, usual)
            assert usual.accepted == usual.files, f"a good file is refused: {fault}"
        counts, draw = Counts(usual=usual.slowest), Random(seed)
        for index in range(count):
            rng = Random(draw.getrandbits(64))
            target, good, spoil = rng.choice(pairs)
            data = spoil(rng, good)
            if fault := _open(kind, target, data, counts):
                counts.faults.setdefault(fault.split(":")[0] + fault.rpartition(" at ")[2], f"file {index}: {fault}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{index}-{target.name}").write_bytes(data)
            target.write_bytes(good)
    return counts


def _open(kind: Kind, target: Path, data: bytes, counts: Counts) -> str:
    """Open one file and count what came of it; returns what must not be, if anything."""
    target.write_bytes(data)
    counts.files += 1
    held, start = _peak(reset=True), time.process_time()
    fault = ""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        kind.check(target)
        counts.accepted += 1
    except ClosedFormError as error:
        counts.refused += 1
        if not str(error).isprintable() or len(str(error)) > _LONGEST:
            counts.messages += 1
            fault = f"message: {str(error)[:200]!r}"
    except Nonsense as error:
        counts.nonsense += 1
        fault = f"nonsense: {str(error)[:300]} {_where(error)}"
    except (Exception, TooSlow) as error:
        counts.foreign += 1
        fault = f"{type(error).__name__}: {str(error)[:200]} {_where(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, megabytes = time.process_time() - start - counts.usual, (_peak() - held) / 2**20
    counts.slowest, counts.largest = max(counts.slowest, seconds), max(counts.largest, megabytes)
    counts.slow += seconds > SECONDS
    counts.large += megabytes > MEGABYTES
    if seconds > SECONDS or megabytes > MEGABYTES:
        return fault or f"{target.name}: {seconds:.2f} s, {megabytes:.0f} MB"
    return fault


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "closedform" in frame.filename] or frames
    return f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _peak(*, reset: bool = False) -> int:
    """Bytes of memory that the process held at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    name = "VmRSS:" if reset else "VmHWM:"
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Bound memory, and the processor's time of each file; nothing that is read may warn."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + CEILING, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
