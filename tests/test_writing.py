"""Whatever is written goes through one writer: a full disk is said in one line, and what was there stays as it was."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing.documents import network, quadratic
from typer.testing import CliRunner

import closedform
from closedform._files import append_text, remove_leftovers, write_json, write_text
from closedform._tensors import write_tensors
from closedform.cli import app
from closedform.distillation import Table, distill, distill_table
from closedform.errors import OutputError
from closedform.evaluation import EvaluationOptions, evaluate
from closedform.learned_optimizers import save_learned_optimizer
from closedform.meta_training import EvolveConfig, MetaTrainConfig, TruncatedBPTT, evolve, meta_train
from closedform.meta_training._metrics import MetricsLog
from closedform.report import ReportData, write_report
from closedform.rules import load_rule, save_rule
from closedform.trajectories import record, save_trajectories

SOURCE = Path(closedform.__file__).parent
OPTIONS = EvaluationOptions(tuning_seeds=1, tail=2, points=2, resamples=9, workers=1, extensions=0)


@contextlib.contextmanager
def full_disk(room: int = 16) -> Iterator[None]:
    """No file gets longer than that: a write ends as on a full disk, whoever does it, be it Python or Rust."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def _recording():
    return record("adam", [quadratic(20)], steps=20, episodes=3, samples=200, coordinates=4)


def _table() -> Table:
    values = np.random.default_rng(0).uniform(1, 2, (60, 2))
    return Table.from_columns({"a": values[:, 0], "y": values[:, 0] * 3}, "y")


def _evaluation(folder: Path | None = None):
    options = OPTIONS
    return evaluate({"mine": "momentum"}, [quadratic()], seeds=2, baselines=("sgd",), options=options, out=folder)


def _train(folder: Path) -> None:
    config = MetaTrainConfig(steps=2, batch=1, validate_every=1, validation_episodes=1)
    meta_train(network(), [quadratic()], estimator=TruncatedBPTT(2), config=config, out=folder)


def _evolve(folder: Path) -> None:
    evolve(load_rule("sgd"), [quadratic()], config=EvolveConfig(generations=1, population=4, tasks=1), out=folder)


WRITERS: dict[str, Callable[[], Callable[[Path], object]]] = {
    "text": lambda: lambda path: write_text(path, "x" * 100),
    "json": lambda: lambda path: write_json(path, [0.5] * 100),
    "tensors": lambda: lambda path: write_tensors(path, {"x": torch.zeros(100)}, {}),
    "rule": lambda: lambda path: save_rule(load_rule("adam"), path),
    "network": lambda: lambda path: save_learned_optimizer(network(), path),
    "recording": lambda: _later(_recording(), save_trajectories),
    "hall": lambda: distill(_recording(), backend="sparse", max_complexity=6, time_limit=5.0).save,
    "equations": lambda: distill_table(_table(), "sparse", max_complexity=4, time_limit=5.0).save,
    "evaluation": lambda: _evaluation().save,
    "report": lambda: _later(ReportData(title="x"), lambda data, path: write_report(path, data)),
    "checkpoint": lambda: lambda path: _train(path.parent),
    "metrics": lambda: (
        lambda path: MetricsLog(path.with_name("metrics.jsonl")).append({"step": 1, "loss": 0.123456789})
    ),
    "evolution": lambda: lambda path: _evolve(path.parent),
    "runs": lambda: lambda path: _evaluation(path.parent),
    "lines": lambda: lambda path: append_text(path, "x" * 100),
}
"""Name -> function that prepares, and returns one that writes a path, or into its folder."""


def _later(thing, write: Callable) -> Callable[[Path], object]:
    return lambda path: write(thing, path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_and_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    write = WRITERS[name]()
    path = tmp_path / "out" / "file"
    path.parent.mkdir()
    path.write_text("good")
    with full_disk(), pytest.raises(OutputError, match=r"^cannot write \S*out/\S*: .*; choose another --out or free"):
        write(path)
    assert path.read_text()[:4] == "good"
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".tmp")] == []


@pytest.mark.parametrize("name", ["record", "export"])
def test_commands_say_so_in_one_line(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = {
        "record": ["record", "adam", "--task", "quadratic", "--steps", "5", "--episodes", "3", "--out", str(out)],
        "export": ["export", "adam", "--to", "python", "--out", str(out / "file")],
    }
    with full_disk():
        found = CliRunner().invoke(app, arguments[name])
    assert found.exit_code == 2
    assert re.fullmatch(r"error: cannot write .*free some space\n", found.output.replace("\n", " ").strip() + "\n")


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append_text(path, "first\n")
    with full_disk(10), pytest.raises(OutputError):
        append_text(path, "second\n")
    append_text(path, "third\n")
    assert path.read_text() == "first\nthird\n"


WRITES = {"write_text", "write_bytes", "save_file", "savez", "tofile", "savefig", "to_csv", "to_parquet"}
OPENED = {
    "_files.py": "the one writer",
    "_tensors.py": "safetensors, into the writer's temporary file",
    "_metrics.py": "appends",
    "_build.py": "appends to the writer's temporary file",
    "_outside.py": "a temporary folder, for another process",
    "_eggp_worker.py": "the same folder, from the other side",
    "_svg.py": "into memory",
}


def _writes(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    if isinstance(function, ast.Name) and name in ("write_text", "append_text", "write_json"):
        return False  # the writer
    modes = [
        arg.value
        for arg in [*node.args[:2], *(one.value for one in node.keywords if one.arg == "mode")]
        if isinstance(arg, ast.Constant)
    ]
    opens = name in ("open", "fdopen") and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
    return opens or name in WRITES


def test_nothing_writes_past_the_writer() -> None:
    found = {
        path.name for path in SOURCE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())) if _writes(node)
    }
    assert found == set(OPENED)


KILLED = """
import os, signal, sys
from pathlib import Path
from closedform._files import write_atomically

def write(temporary):
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), write)
"""


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "rule.json"
    path.write_text("before")
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=250, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2  # the second run removed what the first one left
    write_text(tmp_path / "other.json", "x")
    assert {one.name for one in tmp_path.iterdir()} == {"rule.json", "other.json"}


def test_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    locked = tmp_path / f".a.closedform-{gone.pid}-x1.tmp"  # of a process of another container, say
    left = tmp_path / f".b.closedform-{gone.pid}-x2.tmp"
    others = [tmp_path / f".c.closedform-{os.getpid()}-x3.tmp", tmp_path / ".d.tmp", tmp_path / "closedform-1-x.tmp"]
    for path in (locked, left, *others):
        path.touch()
    link = tmp_path / f".e.closedform-{gone.pid}-x4.tmp"
    link.symlink_to(others[1])
    with locked.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {locked, link, *others}


def test_devices_and_links(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a device or pipe"):
        write_text(Path("/dev/null"), "x")
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    write_text(link, "after")
    assert link.is_symlink()
    assert target.read_text() == "after"
