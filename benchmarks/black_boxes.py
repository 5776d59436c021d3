"""Other people's optimizers, recorded and distilled: how many are recovered.

    python benchmarks/black_boxes.py [--only NAME,...] [--package pytorch_optimizer] [--limit 60] [--jobs 1]

Every class of the package that loads with its defaults and, tried from outside, treats each coordinate by itself, is
recorded on two tasks (8 episodes of 300 steps, 96 parameters, of each) and distilled; the search sees gradients,
parameters and updates alone. The rule chosen is run from step 1 over a fresh recording, of other starts and batches.
*Exact*: 1 - R^2 < 1e-6 there, and each decay that the optimizer was made with (its options named beta, betas, alpha,
rho or momentum), or 1 less it, is within 2 % of 1 - beta among the rule's constants. Writes benchmarks/results/black_boxes.md and .json; what is
there already is kept, so that a run can be gone on with (--anew: not).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import closedform as cf
from closedform._files import write_text
from closedform.errors import ClosedFormError
from closedform.learned_optimizers import BlackBox, black_box
from closedform.reproduce._base import markdown_table, measured_on
from closedform.reproduce._replay import rule_updates

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("mlp-digits", "logistic-digits")
FRESH = 900_000
EXACT, CLOSE, DECAY = 1e-6, 1e-3, 0.02


@dataclass(frozen=True)
class Row:
    """One optimizer."""

    name: str
    verdict: str
    error: float
    seconds: float
    nodes: int
    state: int
    stage: str
    equation: str
    decays: tuple[float, ...]
    wanted: tuple[float, ...]
    missed: tuple[float, ...]


def classes(package: str) -> list[str]:
    module = importlib.import_module(package)
    return sorted(
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    )


def elementwise(package: str) -> tuple[dict[str, BlackBox], dict[str, str]]:
    """Those to be distilled, and why others are not."""
    boxes, left_out = {}, {}
    for name in classes(package):
        try:
            box = black_box(f"{package}:{name}")
        except ClosedFormError as error:
            left_out[name] = str(error).partition(": ")[2] or str(error)
            continue
        if box.random:
            left_out[name] = "draws random numbers"
        elif not box.coordinatewise:
            left_out[name] = "a coordinate's update depends on other coordinates"
        else:
            boxes[name] = box
    return boxes, left_out


def wanted(package: str, name: str) -> tuple[float, ...]:
    """Decays that the class is made with."""
    options = inspect.signature(getattr(importlib.import_module(package), name)).parameters
    found: list[float] = []
    for key in ("beta", "betas", "rho", "momentum", "beta1", "beta2", "alpha"):
        value = options[key].default if key in options else None
        values = value if isinstance(value, (tuple, list)) else (value,)
        found += [v for v in values if isinstance(v, float) and 0 < v < 1]
    return tuple(found)


def held(rule: cf.Rule, fresh: Any) -> float:
    """1 - R^2 from step 1 on a fresh recording, of the cells that are finite."""
    truth = fresh.episode_updates.double()
    found = rule_updates(rule, fresh.gradients.double(), fresh.weights.double())
    good = torch.isfinite(truth)
    truth, found = truth[good], found[good]
    return float((found - truth).square().sum() / (truth - truth.mean()).square().sum())


def row(package: str, name: str, box: BlackBox, limit: float) -> Row:
    recording = cf.record(box, list(TASKS), features=("g", "w"))
    begin = time.monotonic()
    hall = cf.distill(recording, time_limit=limit)
    seconds = time.monotonic() - begin
    entry = hall.choose(tolerance=1e-8)
    fresh = cf.record(box, list(TASKS), features=("g",), episodes=2, seed=FRESH)
    error = held(entry.rule, fresh)
    numbers = [abs(value) for value in entry.rule.constants.values()]
    asked = wanted(package, name)
    missed = tuple(b for b in asked if all(min(abs(v - b), abs(1 - v - b)) > DECAY * (1 - b) for v in numbers))
    verdict = "exact" if error < EXACT and not missed else "close" if error < CLOSE else "no"
    decays = tuple(round(v, 6) for key, v in entry.rule.constants.items() if key.startswith("d_"))
    counts = (entry.complexity, entry.state_cost)
    error = error if math.isfinite(error) else 1e9
    return Row(name, verdict, error, seconds, *counts, entry.stage, entry.equation, decays, asked, missed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", default="pytorch_optimizer")
    parser.add_argument("--only", default="")
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--out", default=str(RESULTS / "black_boxes"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    boxes, left_out = elementwise(options.package)
    kept = Path(f"{options.out}.json")
    known = {}
    if kept.exists() and not options.anew:
        known = {entry["name"]: entry for entry in json.loads(kept.read_text())["rows"]}
    wanted_names = options.only.split(",") if options.only else list(boxes)
    for name in wanted_names:
        if name in known and not options.only:
            continue
        try:
            found = asdict(row(options.package, name, boxes[name], options.limit))
        except ClosedFormError as error:
            found = {**asdict(Row(name, "no", 1e9, 0, 0, 0, "", str(error), (), (), ())), "equation": str(error)}
        known[name] = found
        print(
            name,
            found["verdict"],
            f"{found['error']:.1e}",
            f"{found['seconds']:.1f}s",
            found["stage"],
            found["equation"],
            found["decays"],
            found["missed"],
            flush=True,
        )
        document = {
            "package": options.package,
            "rows": sorted(known.values(), key=lambda e: e["name"]),
            "left_out": left_out,
            "measured": measured_on(),
        }
        write_text(kept, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
