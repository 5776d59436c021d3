"""Try bad input on the command line and print what each case says: python scripts/bad_input.py > FILE.

Every case must end with exit code 2, one line, and no traceback; those that give a sensible result all the same, with
exit code 0 and a line or a result that says what was done.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

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
        "the horizon in a file of format 1": {"update": "-progress*g"},
        "a matrix operator on a scalar": {"format": "closedform.rule/2", "update": "-norm(g)*row_mean(norm(g))*g"},
        "an initial value of no state": {"format": "closedform.rule/2", "init": {"n": "w"}},
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


def tables(folder: Path) -> dict[str, list[str]]:
    """Data that nothing can be distilled from."""
    files = {
        "a table of one row": "a,y\n1,2\n",
        "a constant target": "a,y\n" + "".join(f"{k},5\n" for k in range(100)),
        "a column of strings": "a,name,y\n" + "".join(f"{k},n{k},{k}\n" for k in range(100)),
        "a ragged table": "a,b,y\n1,2,3\n4,5\n",
        "a table without names": "".join(f"{k},{k}\n" for k in range(100)),
        "a table that is no text": "a,y\n\xff\xfe\x00\n",
    }
    found = {}
    for index, (title, text) in enumerate(files.items()):
        path = folder / f"table{index}.csv"
        path.write_bytes(text.encode("latin-1"))
        found[title] = ["distill", str(path)]
    good = folder / "good.csv"
    good.write_text("a,b,y\n" + "".join(f"{k},{k * k % 11},{2 * k}\n" for k in range(100)))
    pickled = folder / "pickled.npy"
    np.save(pickled, np.array([{}, 1], dtype=object), allow_pickle=True)
    more = {
        "a target that is not there": ["distill", str(good), "--target", "z"],
        "an array of pickles": ["distill", str(pickled), "--columns", "a,y"],
        "an operator that does not exist": ["distill", str(good), "--operators", "add,tanhh"],
        "a back end that does not exist": ["distill", str(good), "--backend", "gplearn"],
        "an engine that is not installed": ["distill", str(good), "--backend", "pysr"],
        "no restarts": ["distill", str(good), "--restarts", "0"],
        "a negative time limit": ["distill", str(good), "--time-limit", "-1"],
    }
    return found | more


def models(folder: Path) -> dict[str, list[str]]:
    """Checkpoints, tasks and windows that meta-training refuses."""
    short = ["--task", "quadratic", "--steps", "2", "--horizon", "8", "--unroll", "4"]
    run(["train", "rp-s", *short, "--out", str(folder / "trained")])
    damaged = folder / "damaged"
    shutil.copytree(folder / "trained", damaged)
    for path in damaged.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    trained = str(folder / "trained")
    return {
        "a checkpoint of another model": ["train", "dm", *short, "--out", trained, "--resume"],
        "a checkpoint with other options": ["train", "rp-s", *short, "--lr", "1", "--out", trained, "--resume"],
        "a truncated checkpoint": ["train", "rp-s", *short, "--out", str(damaged), "--resume"],
        "a truncated model": ["record", str(damaged / "model.safetensors"), "--out", str(folder / "t.safetensors")],
        "weights of another model": ["train", "dm", "--init", f"{trained}/model.safetensors", *short],
        "an estimator that does not exist": ["train", "rp-s", "--estimator", "pess", *short],
        "an option of another estimator": ["train", "rp-s", "--std", "0.1", *short],
        "a constant that does not exist": ["tune", "adam", "--trainable", "beta3", *short],
        "zero meta-steps": ["train", "rp-s", "--task", "quadratic", "--steps", "0"],
        "a table of the paper that does not exist": ["reproduce", "sanityy"],
    }


def sensible(folder: Path) -> dict[str, list[str]]:
    """What is odd, and gives a result all the same."""
    values = np.arange(1e6)
    np.save(folder / "million.npy", np.column_stack([values, values % 7, 3 * values]))
    rows = np.random.default_rng(0).normal(size=(200, 1))
    np.save(folder / "empty_column.npy", np.column_stack([rows, rows * np.nan, 2 * rows]))
    names = ["--columns", "a,b,y", "--out", str(folder / "sensible")]
    quick = ["--time-limit", "0"]
    return {
        "a million rows": ["distill", str(folder / "million.npy"), *names, *quick],
        "a column that is NaN throughout": ["distill", str(folder / "empty_column.npy"), *names, *quick],
        "a time limit of 0": ["distill", str(folder / "good.csv"), *quick, "--out", str(folder / "sensible")],
        "a window longer than the horizon": [
            *("train", "rp-s", "--task", "quadratic", "--steps", "2", "--horizon", "8", "--unroll", "50"),
            *("--out", str(folder / "long")),
        ],
    }


PYTHON = {
    "a task whose loss is NaN": """
from closedform import meta_train, learned_optimizers, tasks
task = tasks.get("quadratic")
task.loss_and_grad = lambda params, batch: (next(iter(params.values())).sum() * float("nan"), params)
task.loss = lambda params, batch: next(iter(params.values())).sum() * float("nan")
meta_train(learned_optimizers.get("rp-s"), [task])
""",
    "no tasks": """
from closedform import meta_train, learned_optimizers
meta_train(learned_optimizers.get("rp-s"), [])
""",
    "a rule with progress, without total_steps": """
import torch
from closedform import RuleOptimizer
RuleOptimizer([torch.nn.Parameter(torch.ones(2))], "cf1")
""",
    "a horizon of no steps": """
import torch
from closedform import RuleOptimizer
RuleOptimizer([torch.nn.Parameter(torch.ones(2))], "cf1", total_steps=0)
""",
    "a distribution of no tasks": """
from closedform import TaskDistribution
TaskDistribution(families=())
""",
    "evolution on no tasks": """
from closedform import load_rule
from closedform.meta_training import evolve
evolve(load_rule("adam"), [])
""",
    "a reference that diverges": """
from closedform import load_rule, tasks
from closedform.meta_training import evolve
task = tasks.get("quadratic")
task.loss = lambda params, batch: next(iter(params.values())).sum() * float("inf")
evolve(load_rule("adam"), [task])
""",
}
"""What the command line cannot ask for, with the library: the last line of the traceback is shown."""


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
        "an empty pool of tasks": ["evolve", "adam", "--pool", "0", *out],
        "a horizon longer than the budget": ["evolve", "adam", "--horizon", "50", "100000", "--budget", "100", *out],
    }
    return found | {title: _out(arguments, folder) for title, arguments in (tables(folder) | models(folder)).items()}


def _out(arguments: list[str], folder: Path) -> list[str]:
    return arguments if "--out" in arguments else [*arguments, "--out", str(folder / "out")]


def report(title: str, done: subprocess.CompletedProcess[str], shown: str, right: bool) -> bool:
    wrong = "" if right else ", NOT AS IT SHOULD BE"
    print(f"- **{title}** ({done.returncode}{wrong}): `{shown[:400]}`", flush=True)
    return right


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


def main() -> int:
    results = []
    print("# Bad input\n\n`python scripts/bad_input.py`: what each case printed, and its exit code.\n")
    with tempfile.TemporaryDirectory() as name:
        for title, arguments in cases(Path(name)).items():
            done = run(arguments)
            lines = [line for line in done.stderr.strip().splitlines() if line]
            right = done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr + done.stdout
            results.append(report(title, done, (lines[-1] if lines else "(nothing)").replace(name, "DIR"), right))
        print("\n## Odd, and all the same a result\n")
        for title, arguments in sensible(Path(name)).items():
            done = run(arguments)
            lines = [line for line in (done.stderr + done.stdout).strip().splitlines() if line]
            said = " | ".join([*done.stderr.strip().splitlines(), lines[-1]] if lines else ["(nothing)"])
            right = done.returncode == 0 and "Traceback" not in done.stderr
            results.append(report(title, done, said.replace(name, "DIR"), right))
    print("\n## From Python: the error raised\n")
    for title, source in PYTHON.items():
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
        last = done.stderr.strip().splitlines()[-1]
        results.append(report(title, done, last, last.startswith("closedform.errors.")))
    return results.count(False)


if __name__ == "__main__":
    sys.exit(main())
