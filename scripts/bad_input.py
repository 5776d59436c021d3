"""Try bad input on the command line and print what each case says: python scripts/bad_input.py > FILE.

Every case must end with exit code 2 (or 130 for an interruption), one line, and no traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = [sys.executable, "-m", "closedform"]
GOOD = {
    "format": "closedform.rule/1",
    "name": "foo",
    "lr": 0.1,
    "constants": {"beta": 0.9},
    "state": {"m": "beta*m + g"},
    "where": {},
    "update": "-m",
    "provenance": {},
}


def rule_files(folder: Path) -> dict[str, Path]:
    cases = {
        "unknown name": {"state": {"m": "beta3*m + g"}},
        "unknown operator": {"update": "-tnh(m)"},
        "syntax error": {"update": "-m +"},
        "wrong number of arguments": {"update": "-tanh(m, g)"},
        "clash of names": {"where": {"m": "g"}},
        "reserved name": {"state": {"g": "g"}},
        "constant that is text": {"constants": {"beta": "0.9"}},
        "other format version": {"format": "closedform.rule/9"},
        "misspelled entry": {"udpate": "-m"},
        "lag of an expression": {"update": "-lag(m + g, 2)"},
        "import in an expression": {"update": "__import__('os').system('echo gotcha')"},
        "deep nesting": {"update": "(" * 3000 + "g" + ")" * 3000},
        "a tower of powers": {"update": "g**1000"},
    }
    files = {}
    for index, (name, change) in enumerate(cases.items()):
        path = folder / f"rule{index}.json"
        path.write_text(json.dumps({**GOOD, **change}))
        files[name] = path
    files["not JSON"] = folder / "broken.json"
    files["not JSON"].write_text('{"format": ')
    files["a rule of 10 MB"] = folder / "large.json"
    files["a rule of 10 MB"].write_text(json.dumps({**GOOD, "provenance": {"x": "y" * 10 * 2**20}}))
    return files


def cases(folder: Path) -> dict[str, list[str]]:
    found = {f"rule: {name}": ["explain", str(path)] for name, path in rule_files(folder).items()}
    truncated = folder / "truncated"
    truncated.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (truncated / f"{name}-ubyte").write_bytes(b"\x00\x00\x08\x03\x00\x00")
    (folder / "nothing").mkdir()
    (folder / "short.safetensors").write_bytes(b"\x10")
    out = ["--out", str(folder / "out")]
    found |= {
        "missing data": ["train", "--task", "mlp-mnist", "--data-dir", str(folder / "nothing"), *out],
        "truncated data": ["train", "--task", "mlp-mnist", "--data-dir", str(truncated), *out],
        "wrong task name": ["train", "--task", "mlp-digit", *out],
        "wrong optimizer name": ["train", "rp-sii", *out],
        "unwritable folder": ["train", "rp-s", "--task", "quadratic", "--steps", "1", "--out", "/proc/nothing/here"],
        "a device that is not there": ["run", "--task", "quadratic", "--device", "cuda:9", *out],
        "a recording that is not one": ["distill", str(folder / "short.safetensors"), *out],
        "no seeds": ["evaluate", "--seeds", "0", *out],
        "unknown export target": ["export", "adam", "--to", "pyhton"],
    }
    return found


def main() -> int:
    bad = 0
    print("# Bad input\n\n`python scripts/bad_input.py`: what each case printed, and its exit code.\n")
    with tempfile.TemporaryDirectory() as name:
        for title, arguments in cases(Path(name)).items():
            environment = {**os.environ, "COLUMNS": "200"}
            done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)
            lines = [line for line in done.stderr.strip().splitlines() if line]
            right = done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr + done.stdout
            bad += not right
            shown = (lines[-1] if lines else "(nothing)").replace(name, "DIR")
            print(f"- **{title}** ({done.returncode}{'' if right else ', NOT AS IT SHOULD BE'}): `{shown[:400]}`")
    return bad


if __name__ == "__main__":
    sys.exit(main())
