"""The eggp back end, beside eggp itself where it is installed."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from closedform.distillation import BACKENDS, DistillConfig, Table, distill, distill_table
from closedform.distillation.engines._eggp import EGGP_SPELLINGS, NONTERMINALS, EggpBackend
from closedform.distillation.engines._outside import read_equation
from closedform.errors import DistillationError, OptionError
from closedform.lang import Symbol, evaluate, parse
from closedform.trajectories import Trajectories

MakeRecording = Callable[..., Trajectories]
needs_eggp = pytest.mark.skipif(importlib.util.find_spec("eggp") is None, reason="eggp is not installed")


def test_the_table_of_back_ends_has_it() -> None:
    assert isinstance(BACKENDS["eggp"], EggpBackend)
    assert BACKENDS["eggp"].worker.is_file()


def test_missing_eggp_says_how_to_install_it(make_recording: MakeRecording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs the package eggp; install it with: pip install 'closedform\[eggp\]'"):
        distill(make_recording(lambda g: -g(0)), "eggp")


@needs_eggp
def test_operators_that_it_lacks_are_named() -> None:
    with pytest.raises(DistillationError, match="eggp cannot search with clip, where"):
        EggpBackend().check(DistillConfig(operators=("add", "clip", "where")))
    EggpBackend().check(DistillConfig())  # of the default it takes what it has


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("(-1.5e-2 + (x0 * 0.25))", "-0.015 + a*0.25"),
        ("Square((x0 - -1.5e-3))", "square(a + 0.0015)"),
        ("(Recip(x1) / Sqrt(Abs(x0)))", "1/b/sqrt(abs(a))"),
        ("(ASinh(x0) * (Sinh(x1) - Tanh(x0)))", "asinh(a)*(sinh(b) - tanh(a))"),
        ("((x0 + x1) ^ 3.0)", "(a + b)**3"),
        ("(Exp(x0) / Log(Abs(Cube(x1))))", "exp(a)/log(abs(cube(b)))"),
        ("(x0 / Recip((x1 + Recip(x0))))", "a*(b + 1/a)"),
        ("Cbrt(x0)", None),
        ("t[0] * x0", None),
        ("__import__('os')", None),
    ],
)
def test_equations_are_read_by_our_own_parser(text: str, meaning: str | None) -> None:
    found = read_equation(text, {"x0": Symbol("a"), "x1": Symbol("b")}, EGGP_SPELLINGS)
    if meaning is None:
        assert found is None
    else:
        at = {"a": torch.tensor(1.3), "b": torch.tensor(0.7)}
        assert float(evaluate(found, at)) == pytest.approx(float(evaluate(parse(meaning), at)))


def test_what_goes_there(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    seen = tmp_path / "seen.json"
    worker.write_text(
        "import os, sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
        f"Path({str(seen)!r}).write_text((folder / 'settings.json').read_text()[:-1]"
        ' + \', "threads": "\' + os.environ["GHCRTS"] + \'"}\')\n'
        "table = folder / 'run' / 'hall_of_fame.csv'\ntable.parent.mkdir()\n"
        "table.write_text('Loss,Equation\\n0.5,Tanh(x0)\\n')\n"
    )
    values = {"g": np.linspace(-1, 1, 50)}
    config = DistillConfig(generations=7, population=300, max_complexity=400, seed=3, threads=2)
    *_, last = EggpBackend(worker=worker).search(values, values["g"] ** 3, config, time.monotonic() + 60)
    assert json.loads(seen.read_text()) == {
        "nonterminals": "add,sub,mul,div,tanh,exp,square,sqrtabs,abs",
        "generations": 7,
        "population": 30,
        "size": 100,
        "seed": 3,
        "threads": "-N2",
    }
    assert (last.generation, last.error, len(last.front)) == (7, 0.5, 1)


@needs_eggp
def test_every_operator_is_one_of_its_own() -> None:
    """eggp ends at once at a name that it does not know."""
    values = {"x": np.linspace(0.4, 2, 60)}
    config = DistillConfig(generations=3, population=300, operators=tuple(NONTERMINALS), max_complexity=8)
    *_, last = EggpBackend().search(values, np.sqrt(values["x"]), config, time.monotonic() + 30)
    assert last.front


@needs_eggp
def test_a_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NONTERMINALS, "add", "plus")
    config = DistillConfig(generations=3, population=100, operators=("add",), max_complexity=8)
    search = EggpBackend().search({"x": np.arange(9.0)}, np.arange(9.0) ** 2, config, time.monotonic() + 30)
    with pytest.raises(DistillationError, match='eggp failed: .*"plus"'):
        list(search)


@needs_eggp
def test_a_distillation_by_it() -> None:
    """It takes no seed, so what it is asked for is so little that any search finds it."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 300))
    table = Table.from_columns({"x": x, "z": z, "y": 2 * x * z}, "y")
    hall = distill_table(table, "eggp", generations=15, population=600, operators=("mul", "add"))
    assert hall.best.r2 > 0.9
    assert hall.provenance["backend"] == "eggp"
