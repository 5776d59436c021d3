"""Training with a rule must not pay for distilling one: what an import loads, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"jinja2", "matplotlib", "pandas", "pooch", "pyoperon", "rich", "scipy", "sklearn", "sympy", "typer"}

# Only what is loaded beyond torch counts: some releases of torch load sympy themselves.
PROBE = """
import sys, torch
before = set(sys.modules)
import {module}
print(" ".join(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def loaded_by(module: str) -> set[str]:
    """Top-level packages that importing ``module`` loads beyond what ``import torch`` does."""
    probe = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, timeout=120, check=False
    )
    assert probe.returncode == 0, probe.stderr
    return set(probe.stdout.split())


@pytest.mark.parametrize("module", ["closedform", "closedform.optim"])
def test_import_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


def test_the_probe_sees_heavy_imports() -> None:
    assert "sympy" in loaded_by("sympy")


def test_the_package_itself_loads_the_standard_library_alone() -> None:
    code = "import sys; before = set(sys.modules); import closedform; print(*(set(sys.modules) - before))"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = {name.partition(".")[0] for name in probe.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"closedform"}
