"""Genetic programming by PySR (Cranmer 2023), the paper's engine, in a process of its own.

PySR needs Julia, so it is an extra, imported nowhere but in ``_pysr_worker.py``. Data go there as arrays and JSON; the
front comes back as the table of equations that PySR keeps on disk, and its text is read by the language's own parser.
One seed gives one search: it runs on one thread, and only its last front is used. One that is cut short by the time
limit is not reproducible.

The tests put a stand-in in PySR's place that keeps to its documented settings and table; with PySR itself this has not
been run yet.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from closedform.distillation._config import DistillConfig
from closedform.distillation.engines._base import Found, unscaled
from closedform.errors import DistillationError, ExpressionError, OptionError
from closedform.lang import Expr, Lag, Number, Symbol, apply, parse, transform

PAPER_OPERATORS = (
    *("add", "mul", "div", "spow", "greater", "relu", "exp", "tanh", "sinh", "asinh", "erfc"),
    *("square", "cube", "abs", "sign", "slog", "ssqrt"),
)
"""The operators of the paper's symbolic regression; its pow, logm and sqrtm are spow, slog and ssqrt here."""
BINARY = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "^",
    "min": "min",
    "max": "max",
    "greater": "greater",
    "spow": "spow(x, y) = sign(x) * abs(x)^y",
}
UNARY = {name: name for name in "abs sign sqrt square cube exp log tanh sinh asinh erf erfc relu neg".split()}
UNARY |= {"ssqrt": "ssqrt(x) = sqrt(abs(x))", "slog": "slog(x) = log(abs(x) + 1e-8)"}
"""The language's operators as PySR takes them: names of its own, or definitions in Julia."""
POPULATION = 33
"""Individuals of one of PySR's populations; it evolves several side by side."""
POLL = 0.5
"""Seconds between two looks at the table of equations."""
GRACE = 15.0
"""Seconds past the time limit after which the process is ended; PySR itself stops a little late."""
MAX_TABLE = 16 * 2**20
_WORKER = Path(__file__).with_name("_pysr_worker.py")


@dataclass
class PySRBackend:
    """The paper's engine.

    Attributes:
        worker: The script that runs it.
    """

    name: str = field(default="pysr", init=False)
    worker: Path = _WORKER

    def check(self, config: DistillConfig) -> None:
        """Raise OptionError if PySR is not installed, DistillationError if it lacks one of the operators."""
        if importlib.util.find_spec("pysr") is None:
            raise OptionError(
                "the pysr back end needs PySR, which fetches Julia when first used; "
                "install it with: pip install 'closedform[pysr]'"
            )
        lacking = [name for name in config.operators if name not in BINARY and name not in UNARY]
        if lacking:
            known = ", ".join([*BINARY, *UNARY])
            raise DistillationError(f"pysr cannot search with {', '.join(lacking)}; it has {known}: name some of these")

    def search(
        self, columns: Mapping[str, np.ndarray], y: np.ndarray, config: DistillConfig, deadline: float
    ) -> Iterator[Found]:
        """Search, yielding the least error now and then, and at the end the front.

        Args:
            columns: Name -> values, [N], finite.
            y: The update, [N], finite and not constant.
            config: Operators, sizes and seed; ``generations`` are PySR's iterations.
            deadline: ``time.monotonic()`` at which to stop.

        Raises:
            DistillationError: PySR fails; with the last line that it said.
        """
        spreads = [float(values.std()) or 1.0 for values in columns.values()]
        centre, spread = float(y.mean()), float(y.std())
        variables = {
            f"x{index}": apply("mul", Number(1 / spreads[index]), Symbol(name)) for index, name in enumerate(columns)
        }
        with tempfile.TemporaryDirectory(prefix="closedform-pysr-") as name:
            folder = Path(name)
            design = np.column_stack(list(columns.values())) / spreads
            np.savez(folder / "data.npz", columns=design, target=(y - centre) / spread)
            settings = json.dumps(_settings(config, deadline - time.monotonic()))
            (folder / "settings.json").write_text(settings, encoding="utf-8")
            yield from self._run(folder, deadline, config.generations)
            rows = _rows(folder)
        front = [expr for _, text in rows if (expr := read_equation(text, variables)) is not None]
        if rows and not front:
            raise DistillationError(f"none of PySR's equations can be read, such as {rows[0][1][:80]!r}")
        error = min((loss for loss, _ in rows), default=math.inf)
        yield Found(config.generations, error, tuple(unscaled(expr, centre, spread) for expr in front))

    def _run(self, folder: Path, deadline: float, generations: int) -> Iterator[Found]:
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(self.worker), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=folder,
                start_new_session=True,  # an interrupt from the keyboard is for us to handle
            )
            try:
                best, seen = math.inf, 0
                while process.poll() is None and time.monotonic() < deadline + GRACE:
                    time.sleep(POLL)
                    error = min((loss for loss, _ in _rows(folder)), default=math.inf)
                    if error < best:
                        best, seen = error, min(seen + 1, generations)
                        yield Found(seen, error, ())
            finally:
                _end(process)
        if process.returncode and not _rows(folder):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise DistillationError(f"PySR failed: {lines[-1][:200] if lines else f'exit code {process.returncode}'}")


def read_equation(text: str, variables: Mapping[str, Expr]) -> Expr | None:
    """PySR's text of an equation as an expression.

    Args:
        text: For example ``"x0 * -0.25 + spow(x1, 2.0) ^ 3.0"``; untrusted.
        variables: What ``x0``, ``x1``, ... stand for.

    Returns:
        The expression; None if the text says something that the language has no word for.
    """
    try:
        expr = parse(text.replace("^", "**").replace("neg(", "-("))
        return transform(expr, lambda leaf: _leaf(leaf, variables))
    except (ExpressionError, KeyError):
        return None


def _leaf(leaf: Expr, variables: Mapping[str, Expr]) -> Expr:
    if isinstance(leaf, Lag):
        raise KeyError(leaf.name)
    return variables[leaf.name] if isinstance(leaf, Symbol) else leaf


def _rows(folder: Path) -> list[tuple[float, str]]:
    """Loss and equation of every row of PySR's table; none if it is not there yet, or just being written."""
    for path in (folder / "run" / "hall_of_fame.csv", folder / "run" / "hall_of_fame.csv.bak"):
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


def _settings(config: DistillConfig, seconds: float) -> dict[str, Any]:
    return {
        "binary_operators": [BINARY[name] for name in config.operators if name in BINARY],
        "unary_operators": [UNARY[name] for name in config.operators if name in UNARY],
        "niterations": config.generations,
        "population_size": POPULATION,
        "populations": max(1, round(config.population / POPULATION)),
        "maxsize": max(7, config.max_complexity),  # PySR refuses less
        "timeout_in_seconds": max(seconds, 1.0),
        "random_state": config.seed,
        "deterministic": True,
        "parallelism": "serial",
        "precision": 64,
        "progress": False,
        "verbosity": 0,
        "delete_tempfiles": False,
    }
