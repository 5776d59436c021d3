"""Other people's optimizers, recorded and distilled: how many are recovered.

    python benchmarks/black_boxes.py [--part NAME] [--only NAME,...] [--limit 60]

**packages**: every class of pytorch_optimizer and of torch.optim that loads with its defaults and, tried from outside,
treats each coordinate by itself, is recorded on two tasks (8 episodes of 300 steps, 96 parameters, of each) and
distilled; the search sees gradients, parameters and updates alone. The rule chosen is run from step 1 over a fresh
recording, of other starts and batches. *Exact*: 1 - R^2 < 1e-6 there, and each decay that the optimizer was made with
(its options named beta, betas, alpha, rho or momentum), or 1 less it, is within 2 % of 1 - beta among the rule's
constants. *Close*: 1 - R^2 < 1e-3. **certainty**: networks with random and with trained weights, and Muon, which none
of these rules can be. **noise**: rules of the library with 1 % noise on every update (of its own size); structure and
decays to 5 % of 1 - beta.

Writes benchmarks/results/black_boxes.md and .json; rows that are there are kept, so that a run goes on where it ended
(--anew: from the beginning).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import closedform as cf
from closedform._files import write_text
from closedform.errors import ClosedFormError
from closedform.learned_optimizers import BlackBox, black_box
from closedform.reproduce._base import markdown_table, measured_on
from closedform.reproduce._replay import rule_updates
from closedform.trajectories import Trajectories

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("mlp-digits", "logistic-digits")
PACKAGES = ("pytorch_optimizer", "torch.optim")
FRESH = 900_000
EXACT, CLOSE, DECAY, NOISY_DECAY, NOISE = 1e-6, 1e-3, 0.02, 0.05, 0.01
NOISED = {
    "adam": (0.9, 0.999),
    "adamw": (0.9, 0.999),
    "lion": (0.9, 0.99),
    "rmsprop": (0.99,),
    "momentum": (0.9,),
    "nadam": (0.9, 0.999),
    "adabelief": (0.9, 0.999),
}
NEVER = ("random dm", "random rp", "random mlp", "random celo", "dm", "rp", "rp-si", "muon")


@dataclass(frozen=True)
class Row:
    """One optimizer."""

    part: str
    name: str
    verdict: str
    error: float
    seconds: float
    nodes: int
    state: int
    stage: str
    equation: str
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
            left_out[name] = str(error).removeprefix(f"{package}:{name} ")
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


def held(rule: cf.Rule, fresh: Trajectories) -> float:
    """1 - R^2 from step 1 on a fresh recording, of the cells that are finite."""
    truth = fresh.episode_updates.double()
    found = rule_updates(rule, fresh.gradients.double(), fresh.weights.double())
    good = torch.isfinite(truth)
    truth, found = truth[good], found[good]
    error = float((found - truth).square().sum() / (truth - truth.mean()).square().sum())
    return error if math.isfinite(error) else 1e9


def row(part: str, name: str, optimizer: Any, decays: tuple[float, ...], limit: float, noise: float = 0.0) -> Row:
    recording = cf.record(optimizer, list(TASKS), features=("g", "w"))
    if noise:
        recording = noised(recording, noise)
    begin = time.monotonic()
    entry = cf.distill(recording, time_limit=limit).choose(tolerance=1e-3 if noise else 1e-8)
    seconds = time.monotonic() - begin
    error = held(entry.rule, cf.record(optimizer, list(TASKS), features=("g",), episodes=2, seed=FRESH))
    numbers = [abs(value) for value in entry.rule.constants.values()]
    near = NOISY_DECAY if noise else DECAY
    missed = tuple(b for b in decays if all(min(abs(v - b), abs(1 - v - b)) > near * (1 - b) for v in numbers))
    most = CLOSE if noise else EXACT
    verdict = "exact" if error < most and not missed else "close" if error < CLOSE else "no"
    kept = (entry.complexity, entry.state_cost, entry.stage, entry.equation, missed)
    return Row(part, name, verdict, error, seconds, *kept)


def noised(recording: Trajectories, share: float) -> Trajectories:
    """With normal noise on every update, a share of its size."""
    generator = torch.Generator().manual_seed(0)
    updates = recording.episode_updates
    updates = updates * (1 + share * torch.randn(updates.shape, generator=generator, dtype=updates.dtype))
    return replace(recording, episode_updates=updates, updates=updates[recording.positions()])


def entrants(part: str) -> Iterator[tuple[str, Any, tuple[float, ...], float]]:
    """Name, optimizer, decays, noise."""
    if part == "certainty":
        for name in NEVER:
            if name == "muon":
                yield name, cf.load_rule(name), (), 0.0
            elif name.startswith("random "):
                yield name, perturbed(name.removeprefix("random ")), (), 0.0
            else:
                yield name, cf.learned_optimizers.get(name, pretrained=True), (), 0.0
    elif part == "noise":
        for name, decays in NOISED.items():
            yield name, cf.load_rule(name), decays, NOISE
    else:
        for name, box in elementwise(part)[0].items():
            yield name, box, wanted(part, name), 0.0


def perturbed(name: str) -> cf.learned_optimizers.LearnedOptimizer:
    """A network with random weights everywhere, also where a new one has zeros."""
    generator = torch.Generator().manual_seed(1)
    network = cf.learned_optimizers.get(name, generator=generator)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return network


def document(rows: list[dict[str, Any]]) -> str:
    parts = []
    for part in (*PACKAGES, "noise", "certainty"):
        mine = [entry for entry in rows if entry["part"] == part]
        if not mine:
            continue
        count = {verdict: sum(entry["verdict"] == verdict for entry in mine) for verdict in ("exact", "close", "no")}
        close = sum(entry["error"] < CLOSE for entry in mine)
        seconds = [entry["seconds"] for entry in mine]
        told = (
            f"{count['exact']} of {len(mine)} exact ({count['exact'] / len(mine):.0%}), {close} with R² > 0.999 "
            f"({close / len(mine):.0%}); {median(seconds):.1f} s in the median, {max(seconds):.0f} s at most."
        )
        header = (
            "optimizer",
            "verdict",
            "1 − R², fresh",
            "seconds",
            "nodes",
            "state",
            "found by",
            "decays missed",
            "update",
        )
        cells = [
            [
                *(entry["name"], entry["verdict"], f"{entry['error']:.1e}", f"{entry['seconds']:.1f}"),
                *(str(entry["nodes"]), str(entry["state"]), entry["stage"]),
                ", ".join(f"{b:g}" for b in entry["missed"]),
                f"`{entry['equation'][:160]}{'…' if len(entry['equation']) > 160 else ''}`",
            ]
            for entry in mine
        ]
        text = f"## {part}\n\n{told}\n\n{markdown_table(header, cells)}\n"
        if part in PACKAGES:
            left = elementwise(part)[1]
            text += "\nNot tried: " + "; ".join(f"{name} ({why[:110]})" for name, why in left.items()) + ".\n"
        parts.append(text)
    head = (__doc__ or "").split("Writes benchmarks")[0].replace("    python", "`python").strip()
    head = head.replace("[--limit 60]", "[--limit 60]`")
    return f"# Other people's optimizers, distilled\n\n{head}\n\n{measured_on()}.\n\n" + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--out", default=str(RESULTS / "black_boxes"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    kept = Path(f"{options.out}.json")
    rows = [] if options.anew or not kept.exists() else json.loads(kept.read_text())["rows"]
    only = set(options.only.split(",")) if options.only else None
    for part in [options.part] if options.part else [*PACKAGES, "noise", "certainty"]:
        for name, optimizer, decays, noise in entrants(part):
            known = any(entry["part"] == part and entry["name"] == name for entry in rows)
            if (only is not None and name not in only) or (known and only is None):
                continue
            try:
                found = row(part, name, optimizer, decays, options.limit, noise)
            except ClosedFormError as error:
                found = Row(part, name, "no", 1e9, 0.0, 0, 0, "", str(error), ())
            rows = [entry for entry in rows if (entry["part"], entry["name"]) != (part, name)] + [asdict(found)]
            print(part, name, found.verdict, f"{found.error:.1e}", f"{found.seconds:.1f} s", found.equation, flush=True)
            rows.sort(key=lambda entry: (entry["part"], entry["name"].lower()))
            write_text(kept, json.dumps({"measured": measured_on(), "rows": rows}, indent=1) + "\n")
    write_text(Path(f"{options.out}.md"), document(rows))


if __name__ == "__main__":
    main()
