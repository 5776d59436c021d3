"""``closedform export``: to standard output or a file, and errors in one line."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from closedform.cli import app
from closedform.export import EXPORTERS, export

RUNNER = CliRunner()


def error_of(*args: str) -> str:
    result = RUNNER.invoke(app, ["export", *args])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("target", EXPORTERS)
def test_to_standard_output_and_to_a_file(tmp_path: Path, target: str) -> None:
    assert RUNNER.invoke(app, ["export", "lion", "--to", target]).stdout == export("lion", target)
    path = tmp_path / "new folder" / f"lion{EXPORTERS[target].suffix}"
    assert RUNNER.invoke(app, ["export", "lion", "--to", target, "--out", str(path)]).stdout == f"wrote {path}\n"
    assert path.read_text(encoding="utf-8") == export("lion", target)


def test_a_torch_optimizer_is_the_default() -> None:
    assert "class Lion(torch.optim.Optimizer):" in RUNNER.invoke(app, ["export", "lion"]).stdout


def test_errors_are_one_line(tmp_path: Path) -> None:
    assert "unknown export target 'tensorflow': known: latex, numpy, optax, python" in error_of(
        "adam", "--to", "tensorflow"
    )
    assert "did you mean 'optax'?" in error_of("adam", "--to", "optx")
    assert "did you mean 'adam'?" in error_of("adm")
    assert "cannot read rule file" in error_of(str(tmp_path / "none.json"))
    (tmp_path / "file").write_text("")
    assert "cannot write" in error_of("adam", "--out", str(tmp_path / "file" / "adam.py"))
    assert "Is a directory; choose another --out" in error_of("adam", "--out", str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    assert "it is a device or pipe" in error_of("adam", "--out", str(tmp_path / "pipe"))


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to(tmp_path / "lion.py")
    RUNNER.invoke(app, ["export", "lion", "--out", str(tmp_path / "link.py")])
    assert (tmp_path / "link.py").is_symlink()
    assert (tmp_path / "lion.py").read_text() == export("lion")
