"""The pysr back end, with a stand-in for PySR itself: it needs Julia, which the tests do without.

What is held here: how data and settings go there, how equations come back, and what happens when something is wrong.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from closedform.distillation import BACKENDS, PAPER_OPERATORS, DistillConfig, distill
from closedform.distillation._distill import BACKENDS as TABLE
from closedform.distillation.engines._outside import read_equation
from closedform.distillation.engines._pysr import JULIA_SPELLINGS, PySRBackend
from closedform.errors import DistillationError, OptionError
from closedform.lang import Symbol, evaluate, parse, to_text
from closedform.trajectories import Trajectories

MakeRecording = Callable[..., Trajectories]
CONFIG = DistillConfig(generations=7, operators=PAPER_OPERATORS, seed=5, max_complexity=30)
HEAD = """
import json, sys, time
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
settings = json.loads((folder / "settings.json").read_text())
data = np.load(folder / "data.npz", allow_pickle=False)
table = folder / "run" / "hall_of_fame.csv"
table.parent.mkdir()
def write(*rows):
    table.write_text("Complexity,Loss,Equation\\n" + "\\n".join(rows) + "\\n")
"""


def stand_in(folder: Path, body: str) -> PySRBackend:
    worker = folder / "worker.py"
    worker.write_text(HEAD + body)
    return PySRBackend(worker=worker)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("pysr", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"g": rng.normal(0, 0.01, 200), "m_1": rng.normal(0, 3, 200)}


def test_the_table_of_back_ends_has_it() -> None:
    assert isinstance(BACKENDS["pysr"], PySRBackend)
    assert BACKENDS is TABLE
    assert BACKENDS["pysr"].worker.is_file()


def test_missing_pysr_says_how_to_install_it(make_recording: MakeRecording) -> None:
    if importlib.util.find_spec("pysr") is not None:
        pytest.skip("PySR is installed here")
    with pytest.raises(OptionError, match=r"pip install 'closedform\[pysr\]'"):
        distill(make_recording(lambda g: -g(0)), "pysr")


@pytest.mark.usefixtures("installed")
def test_operators_that_pysr_lacks_are_named() -> None:
    with pytest.raises(DistillationError, match="pysr cannot search with clip, where"):
        PySRBackend().check(DistillConfig(operators=("add", "clip", "where")))
    PySRBackend().check(CONFIG)


def test_settings_and_data_go_there_and_equations_come_back(tmp_path: Path) -> None:
    body = f"""
spread, target = data["columns"].std(axis=0).tolist(), data["target"]
seen = {{**settings, "spread": spread, "target": [target.mean(), target.std()]}}
Path({str(tmp_path / "seen.json")!r}).write_text(json.dumps(seen))
write("1,0.9,x0", '3,0.25,"spow(x0, 2.0)"', "5,0.01,(x0 * 2.0) ^ 2.0", "7,NaN,x1", "9,0.001,gamma(x1)")
"""
    values = columns()
    y = 5 + 2 * values["m_1"]
    found = list(stand_in(tmp_path, body).search(values, y, CONFIG, time.monotonic() + 60))
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["random_state"] == 5
    assert (seen["niterations"], seen["maxsize"], seen["parallelism"]) == (7, 30, "serial")
    assert seen["binary_operators"] == ["+", "*", "/", "spow(x, y) = sign(x) * abs(x)^y", "greater"]
    assert {"tanh", "ssqrt(x) = sqrt(abs(x))", "slog(x) = log(abs(x) + 1e-8)"} <= set(seen["unary_operators"])
    np.testing.assert_allclose([*seen["spread"], *seen["target"]], [1, 1, 0, 1], atol=1e-9)
    last = found[-1]
    assert (last.generation, last.error, len(last.front)) == (7, 0.001, 3)
    at = {"g": torch.tensor(0.02), "m_1": torch.tensor(1.0)}
    scaled = 0.02 / values["g"].std()
    expected = [5 + 0, 0, 0]
    for index, value in enumerate((scaled, scaled**2, (2 * scaled) ** 2)):
        expected[index] = y.mean() + y.std() * value
        assert float(evaluate(last.front[index], at)) == pytest.approx(expected[index], rel=1e-5)
    assert all(not step.front for step in found[:-1])


def test_a_search_past_its_time_is_ended_with_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closedform.distillation.engines._outside.GRACE", 0.5)
    monkeypatch.setattr("closedform.distillation.engines._outside.POLL", 0.1)
    noted = tmp_path / "process"
    body = f"import os\nPath({str(noted)!r}).write_text(str(os.getpid()))\nwrite('1,0.5,x1')\ntime.sleep(3600)"
    found = list(stand_in(tmp_path, body).search(columns(), columns()["m_1"], CONFIG, time.monotonic() + 1))
    with pytest.raises(ProcessLookupError):  # it has been ended, though it would have slept on
        os.kill(int(noted.read_text()), 0)
    assert to_text(found[-1].front[0]).startswith("m_1 ")
    assert found[0].error == 0.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ImportError('no Julia here')", "PySR failed: ImportError: no Julia here"),
        ("sys.exit(3)", "PySR failed: exit code 3"),
        ("write(\"1,0.5,__import__('os')\")", "none of PySR's equations can be read"),
    ],
)
def test_failures_are_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DistillationError, match=message):
        list(stand_in(tmp_path, body).search(columns(), columns()["g"], CONFIG, time.monotonic() + 60))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("x0 * -1.5e-3", "a*(-0.0015)"),
        ("((x0 ^ 2.0) + neg(x1)) / greater(x0, x1)", "(a**2 - b)/greater(a, b)"),
        ("slog(ssqrt(square(x0))) - -0.5", "slog(ssqrt(square(a))) - (-0.5)"),
        ("erfc(asinh(sinh(relu(cube(x1)))))", "erfc(asinh(sinh(relu(cube(b)))))"),
        ("x2 + 1", None),
        ("x0 + Inf", None),
        ("lag(x0, 3)", None),
        ("x0.__class__", None),
        ("x0 ^ 1000.0", None),
        ("(" * 500 + "x0" + ")" * 500, None),
        ("x0 +", None),
    ],
)
def test_equations_are_read_by_our_own_parser(text: str, meaning: str | None) -> None:
    found = read_equation(text, {"x0": Symbol("a"), "x1": Symbol("b")}, JULIA_SPELLINGS)
    if meaning is None:
        assert found is None
    else:
        at = {"a": torch.tensor(1.3), "b": torch.tensor(0.7)}
        assert float(evaluate(found, at)) == pytest.approx(float(evaluate(parse(meaning), at)))


@pytest.mark.usefixtures("installed")
def test_a_distillation_by_it(tmp_path: Path, make_recording: MakeRecording, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted answer goes through the whole distillation."""
    recording = make_recording(lambda g: torch.tanh(g(0)) * torch.sign(g(1)), window=1)
    write = 'write("5,0.0,tanh(x0 * %.12f) * sign(x1) * %.12f")'
    y = torch.tanh(recording.features[:, 0]) * torch.sign(recording.features[:, 1])
    backend = stand_in(tmp_path, write % (float(recording.features[:, 0].std()), 1 / float(y.std())))
    monkeypatch.setitem(TABLE, "pysr", backend)
    hall = distill(recording, "pysr", decays=(), generations=3, operators=PAPER_OPERATORS, max_complexity=14)
    best = hall.best
    assert best.stage == "pysr"
    assert best.r2 > 0.99
