"""Members that other packages bring through entry points."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import closedform as cf
from closedform import learned_optimizers, tasks
from closedform._plugins import GROUPS, plugins
from closedform.cli import app
from closedform.errors import OptionError, UnknownNameError

RUNNER = CliRunner()
MODULE = """
from functools import partial
from closedform import tasks
from closedform.learned_optimizers import RNNprop
from closedform.learned_optimizers._rnnprop import RNNPROP_SIZES
from closedform.distillation.engines._base import NoSearch

def bowl(data_dir=None, **options):
    task = tasks.TASKS["quadratic"](data_dir=data_dir, **options)
    task.name = "bowl"
    return task

def mine(generator=None, **options):
    return RNNprop("mine", RNNPROP_SIZES["rp-s"], generator=generator, **options)

class Engine(NoSearch):
    name = "engine"
"""
ENTRIES = """
[closedform.tasks]
bowl = plugin_of_tests:bowl
gone = plugin_of_tests:nothing
quadratic = plugin_of_tests:bowl
[closedform.learned_optimizers]
mine = plugin_of_tests:mine
[closedform.engines]
engine = plugin_of_tests:Engine
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_of_tests.py").write_text(MODULE)
    info = tmp_path / "plugin_of_tests-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-tests\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugin_of_tests", raising=False)


@pytest.mark.filterwarnings("ignore:plug-in 'quadratic'")
def test_members_of_a_package_are_had_by_name(package: None, tmp_path: Path) -> None:
    assert tasks.get("bowl").name == "bowl"
    network = learned_optimizers.get("mine")
    path = learned_optimizers.save_learned_optimizer(network, tmp_path / "mine.safetensors")
    assert learned_optimizers.load_learned_optimizer(path).name == "mine"
    recording = cf.record("momentum", "bowl", steps=20, episodes=4)
    assert cf.distill(recording, "engine", time_limit=1).choose().error < 1e-3


@pytest.mark.filterwarnings("ignore:plug-in 'quadratic'")
def test_nothing_is_imported_before_it_is_asked_for(package: None) -> None:
    assert tasks.get("quadratic").name == "quadratic"
    assert set(plugins("closedform.tasks", tasks.TASKS)) == {"bowl", "gone"}
    assert "plugin_of_tests" not in sys.modules


def test_a_name_that_is_taken_stays_ours(package: None) -> None:
    with pytest.warns(UserWarning, match=r"plug-in 'quadratic' of plugin-of-tests 1.2 is left out: closedform has"):
        plugins("closedform.tasks", tasks.TASKS)
    assert tasks.get("quadratic").name == "quadratic"


@pytest.mark.filterwarnings("ignore:plug-in 'quadratic'")
def test_one_that_is_broken_says_whose_it_is(package: None) -> None:
    with pytest.raises(OptionError, match=r"'gone' of plugin-of-tests 1.2 .* cannot be imported: AttributeError"):
        tasks.get("gone")
    with pytest.raises(UnknownNameError, match="did you mean 'bowl'"):
        tasks.get("bowll")


@pytest.mark.filterwarnings("ignore:plug-in 'quadratic'")
def test_commands_list_them(package: None) -> None:
    rows = json.loads(RUNNER.invoke(app, ["plugins", "--json"]).stdout)
    assert {(row["group"], row["name"], row["problem"] is None) for row in rows} == {
        ("closedform.tasks", "bowl", True),
        ("closedform.tasks", "gone", False),
        ("closedform.learned_optimizers", "mine", True),
        ("closedform.engines", "engine", True),
    }
    done = RUNNER.invoke(app, ["tasks"])
    assert done.exit_code == 0
    assert "bowl" in done.stdout
    assert "warning: plug-in 'gone' of plugin-of-tests" in done.output


def test_without_plugins_the_command_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    done = RUNNER.invoke(app, ["plugins"])
    assert done.exit_code == 0
    assert all(group in " ".join(done.stdout.split()) for group in GROUPS)
