"""An engine in a process of its own, which leaves a table of equations in a folder.

Data go there as arrays and JSON; the front comes back as text, read by the language's own parser and never evaluated.
Such an engine may crash, hang or take the machine with it: it is ended at the deadline, and what it had found is kept.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._base import Found, unscaled
from closedform.errors import DistillationError, ExpressionError, OptionError
from closedform.lang import Expr, Lag, Number, Symbol, apply, parse, transform

POLL = 0.5
"""Seconds between two looks at the table of equations."""
GRACE = 15.0
"""Seconds past the time limit after which the process is ended; engines themselves stop a little late."""
MAX_TABLE = 16 * 2**20
TABLE = Path("run") / "hall_of_fame.csv"
"""Where a worker keeps its front, inside its folder: a table with the columns Loss and Equation."""


@dataclass
class OutsideBackend(ABC):
    """An engine that runs in a process of its own, by a script.

    Attributes:
        name: Its name; also that of its module, and of the extra that installs it.
        title: What people call it.
        worker: The script that runs it: called with a folder that holds ``settings.json`` and ``data.npz``
            (``columns``, [N, D], of unit spread, and ``target``, [N], standardised), it keeps its front in ``TABLE``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[str]
    """What must be installed, in words."""
    known: ClassVar[tuple[str, ...]]
    """The language's operators that it has."""
    spellings: ClassVar[Mapping[str, str]]
    """As for `read_equation`."""
    worker: Path

    @abstractmethod
    def settings(self, config: DistillConfig, seconds: float) -> dict[str, Any]:
        """What the script is told; ``seconds`` are left."""

    def operators(self, config: DistillConfig) -> tuple[str, ...]:
        """The operators to search with."""
        return config.operators

    def environment(self, config: DistillConfig) -> dict[str, str]:
        """Variables that the process is given besides its parent's."""
        return {}

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if the engine is not installed, DistillationError if it lacks one of the operators."""
        if importlib.util.find_spec(self.name) is None:
            raise OptionError(
                f"the {self.name} back end needs {self.needs}; install it with: pip install 'closedform[{self.name}]'"
            )
        lacking = [name for name in self.operators(config) if name not in self.known]
        if lacking:
            raise DistillationError(
                f"{self.name} cannot search with {', '.join(lacking)}; it has {', '.join(self.known)}: name some of "
                "these"
            )

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Search, yielding the least error now and then, and at the end the front.

        Args:
            columns: Name -> values, [N], finite. The worker knows them as x0, x1, ...
            y: The update, [N], finite and not constant.
            config: Operators, sizes, seed and threads; ``generations`` are the engine's own.
            deadline: ``time.monotonic()`` at which to stop.

        Raises:
            DistillationError: the process fails; with the last line that it said.
        """
        spreads = [float(values.std()) or 1.0 for values in columns.values()]
        centre, spread = float(y.mean()), float(y.std())
        variables = {
            f"x{index}": apply("mul", Number(1 / spreads[index]), Symbol(name)) for index, name in enumerate(columns)
        }
        with tempfile.TemporaryDirectory(prefix=f"closedform-{self.name}-") as name:
            folder = Path(name)
            design = np.column_stack(list(columns.values())) / spreads
            np.savez(folder / "data.npz", columns=design, target=(y - centre) / spread)
            settings = json.dumps(self.settings(config, deadline - time.monotonic()))
            (folder / "settings.json").write_text(settings, encoding="utf-8")
            yield from self._run(folder, deadline, config)
            rows = _rows(folder)
        front = [expr for _, text in rows if (expr := read_equation(text, variables, self.spellings)) is not None]
        if rows and not front:
            raise DistillationError(f"none of {self.title}'s equations can be read, such as {rows[0][1][:80]!r}")
        error = min((loss for loss, _ in rows), default=math.inf)
        yield Found(config.generations, error, tuple(unscaled(expr, centre, spread) for expr in front))

    def _run(self, folder: Path, deadline: float, config: DistillConfig) -> Iterator[Found]:
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(self.worker), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=folder,
                env={**os.environ, **self.environment(config)},
                start_new_session=True,  # an interrupt from the keyboard is for us to handle
            )
            try:
                best, seen = math.inf, 0
                while process.poll() is None and time.monotonic() < deadline + GRACE:
                    time.sleep(POLL)
                    error = min((loss for loss, _ in _rows(folder)), default=math.inf)
                    if error < best:
                        best, seen = error, min(seen + 1, config.generations)
                        yield Found(seen, error, ())
            finally:
                _end(process)
        if process.returncode and not _rows(folder):
            said, _, _ = log.read_text(encoding="utf-8", errors="replace").partition("HasCallStack backtrace")
            lines = said.strip().splitlines()  # a trace in Haskell ends in places, where others end in the reason
            raise DistillationError(
                f"{self.title} failed: {lines[-1][:200] if lines else f'exit code {process.returncode}'}"
            )


def read_equation(text: str, variables: Mapping[str, Expr], spellings: Mapping[str, str]) -> Expr | None:
    """An engine's text of an equation as an expression.

    Args:
        text: For example ``"x0 * -0.25 + spow(x1, 2.0) ^ 3.0"``; untrusted.
        variables: What ``x0``, ``x1``, ... stand for.
        spellings: Names of the engine's functions -> the language's, or where it has none what is written before the
            argument, such as ``"1/"``.

    Returns:
        The expression; None if the text says something that the language has no word for.
    """
    for theirs, ours in spellings.items():
        text = _respelled(text, theirs, ours)
    try:
        return transform(parse(text.replace("^", "**")), lambda leaf: _leaf(leaf, variables))
    except (ExpressionError, KeyError):
        return None


def _respelled(text: str, theirs: str, ours: str) -> str:
    """A text with a function's name changed. What takes the place of a name keeps together: ``x / Recip(y)``."""
    pieces = re.split(rf"\b{theirs}\(", text)
    if ours.isidentifier():
        return f"{ours}(".join(pieces)
    done = pieces.pop()
    while pieces:
        depth = 1
        end = len(done)
        for index, character in enumerate(done):
            depth += (character == "(") - (character == ")")
            if depth == 0:
                end = index
                break
        done = f"{pieces.pop()}({ours}({done[:end]}){done[end:]}"
    return done


def _leaf(leaf: Expr, variables: Mapping[str, Expr]) -> Expr:
    if isinstance(leaf, Lag):
        raise KeyError(leaf.name)
    return variables[leaf.name] if isinstance(leaf, Symbol) else leaf


def _rows(folder: Path) -> list[tuple[float, str]]:
    """Loss and equation of every row of the table; none if it is not there yet, or just being written."""
    for path in (folder / TABLE, folder / TABLE.with_suffix(".csv.bak")):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                text = file.read(MAX_TABLE)
            rows = [(float(row["Loss"]), str(row["Equation"])) for row in csv.DictReader(text.splitlines())]
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            continue
        if rows:
            return [row for row in rows if math.isfinite(row[0])]
    return []


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
