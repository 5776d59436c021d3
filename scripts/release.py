"""The release as its users get it: built, installed in an empty environment, imported, trained with, type-checked.

    python scripts/release.py [--python python3.12 ...] [--oldest python3.10] [--out FILE]

Builds the source archive, and the wheel from that archive (`python -m build`). Then for each interpreter, this one if
none is named: a new virtual environment outside the checkout, `pip install` of the wheel with the versions of
constraints.txt, one import, one training with ``cf1``, two commands; and mypy, in strict mode, on a file as a user
writes it, where only closedform's own annotations (py.typed) can tell that it is right and what is wrong in another.

``--oldest`` names an interpreter that gets the oldest versions that pyproject.toml promises. Ends with a table of
seconds and megabytes, and with what each dependency takes beside torch. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TRAIN = """
import time; start = time.perf_counter()
import closedform as cf
cf.RuleOptimizer  # loads what it needs, torch first of all
imported = time.perf_counter() - start
import torch
torch.manual_seed(0)
inputs = torch.randn(256, 8)
targets = inputs @ torch.randn(8, 1)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
optimizer = cf.RuleOptimizer(model.parameters(), "cf1", total_steps=100)
for step in range(100):
    optimizer.zero_grad()
    loss = (model(inputs) - targets).square().mean()
    first = loss.item() if step == 0 else first
    loss.backward()
    optimizer.step()
assert loss.item() < 0.1 * first, (first, loss.item())
import json, sys
print(json.dumps({"import": imported, "train": time.perf_counter() - start - imported, "torch": torch.__version__,
                  "file": cf.__file__}))
"""
USER = """
import torch
import closedform as cf

model = torch.nn.Linear(2, 1)
rule: cf.Rule = cf.load_rule("cf1")
optimizer: torch.optim.Optimizer = cf.RuleOptimizer(model.parameters(), rule, total_steps=10)
cost: float = rule.state_cost
"""
WRONG = "name: int = rule.name\n"
"""Wrong by closedform's annotations alone: without py.typed mypy takes ``rule.name`` for Any and is content."""


def run(*command: str | Path, cwd: Path, **settings: object) -> str:
    """What the command prints; its own words and exit code 1 of ours if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, **settings)
    if done.returncode:
        sys.exit(f"FAILED: {' '.join(map(str, command))[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, built from the source archive that is beside it."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def oldest(wheel_requirements: list[str]) -> str:
    """Requirements ``name>=version`` as pins, one a line."""
    pins = []
    for line in wheel_requirements:
        needed = Requirement(line)
        lower = [part.version for part in needed.specifier if part.operator == ">="]
        if len(lower) != 1:
            sys.exit(
                f"FAILED: pyproject.toml promises no oldest version of {needed.name}: write {needed.name}>=VERSION"
            )
        pins.append(f"{needed.name}=={lower[0]}")
    return "\n".join(pins) + "\n"


def dependencies() -> list[str]:
    """The run-time requirements in pyproject.toml; read by pattern, since Python 3.10 has no tomllib."""
    table = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    assert table is not None
    return re.findall(r'^\s*"([^"]+)"', table[1], re.M)


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def sizes(python: Path, folder: Path) -> dict[str, float]:
    """Distribution -> megabytes on disk, from each distribution's own list of files."""
    listing = (
        "import importlib.metadata as m, json, os\n"
        "print(json.dumps({d.metadata['Name']: sum(os.path.getsize(p) for p in map(d.locate_file, d.files or [])"
        " if os.path.exists(p)) / 1e6 for d in m.distributions()}))"
    )
    return json.loads(run(python, "-c", listing, cwd=folder))


def check_types(python: Path, folder: Path) -> None:
    """Mypy passes on the user's file, and refuses the wrong one for the reason that is wrong in it."""
    run(python, "-m", "pip", "install", "-q", "mypy", cwd=folder)
    (folder / "user.py").write_text(USER)
    (folder / "wrong.py").write_text(USER + WRONG)
    run(python, "-m", "mypy", "--strict", "user.py", cwd=folder)
    done = subprocess.run(
        [str(python), "-m", "mypy", "--strict", "wrong.py"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 1 or 'has type "str", variable has type "int"' not in done.stdout:
        sys.exit(f"FAILED: mypy does not see closedform's annotations (py.typed):\n{done.stdout}{done.stderr}")


def trial(interpreter: str, wheel: Path, constraints: Path) -> dict[str, object]:
    """One interpreter, from an empty environment to a trained network."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(interpreter, "-m", "venv", "env", cwd=folder)
        python = folder / "env/bin/python"
        empty, start = megabytes(folder / "env"), time.perf_counter()
        run(python, "-m", "pip", "install", "-q", "-c", constraints, wheel, cwd=folder)
        installed = time.perf_counter() - start
        result = json.loads(run(python, "-W", "error::DeprecationWarning:closedform", "-c", TRAIN, cwd=folder))
        if not result["file"].startswith(str(folder)):
            sys.exit(f"FAILED: closedform was imported from {result['file']}, not from the wheel")
        version = run(folder / "env/bin/closedform", "--version", cwd=folder).strip()
        run(folder / "env/bin/closedform", "explain", "adam", cwd=folder)
        result |= {"install": installed, "all": megabytes(folder / "env") - empty, "sizes": sizes(python, folder)}
        check_types(python, folder)
    number = run(interpreter, "-c", "import platform; print(platform.python_version())", cwd=wheel.parent).strip()
    return {**result, "python": number, "version": version}


def table(trials: list[dict], wheel: Path) -> str:
    """What was measured, in Markdown."""
    heads = ("Python", "versions", "torch", "install, s", "MB", "import, s", "100 steps with `cf1`, s")
    size = wheel.stat().st_size / 1e6
    lines = ["# The release, in empty environments", "", "Made by `scripts/release.py`.", ""]
    lines += [f"`{wheel.name}`, {size:.2f} MB; the last column has compiling the step in it, once.", ""]
    lines += ["| " + " | ".join(heads) + " |", "|---|---|---|--:|--:|--:|--:|"]
    for one in trials:
        numbers = f"{one['install']:.0f} | {one['all']:.0f} | {one['import']:.1f} | {one['train']:.1f}"
        lines.append(f"| {one['python']} | {one['which']} | {one['torch']} | {numbers} |")
    least = min(trials, key=lambda one: one["all"])
    taken = {name: size for name, size in least["sizes"].items() if name.lower() not in ("pip", "setuptools")}
    largest = sorted(taken.items(), key=lambda item: -item[1])
    told = f"MB on disk, by distribution, in the smallest ({least['python']}, {sum(taken.values()):.0f} in all):"
    return "\n".join([*lines, "", told, "", ", ".join(f"{name} {size:.1f}" for name, size in largest) + ".", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], help="an interpreter; repeat it for several")
    parser.add_argument("--oldest", metavar="PYTHON", help="an interpreter for the oldest versions that are promised")
    parser.add_argument("--out", type=Path, help="write the table there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wheel, pins = build(Path(name)), Path(name) / "oldest.txt"
        pins.write_text(oldest(dependencies()))
        asked = [(python, ROOT / "constraints.txt", "constraints.txt") for python in options.python or [sys.executable]]
        asked += [(options.oldest, pins, "oldest promised")] if options.oldest else []
        trials = [trial(python, wheel, versions) | {"which": which} for python, versions, which in asked]
        text = table(trials, wheel)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
