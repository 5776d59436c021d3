"""Other people's optimizers, recorded and distilled: how many are recovered.

    python benchmarks/black_boxes.py [--part NAME] [--only NAME,...] [--limit 60]

**packages**: every class of pytorch_optimizer and of torch.optim that loads with its defaults and, tried from outside,
treats each coordinate by itself, is recorded on two tasks (8 episodes of 300 steps, 96 parameters, of each) and
distilled; the search sees gradients, parameters and updates alone. The rule chosen is run from step 1 over a fresh
recording, of other starts and batches. *Exact*: 1 - R^2 < 1e-6 there, and each decay that the optimizer was made with
(its options named beta, betas, alpha, rho or momentum), or 1 less it, is within 2 % of 1 - beta among the rule's
constants. *Close*: 1 - R^2 < 1e-3. **certainty**: networks with random and with trained weights, and Muon, which none
of these rules can be.

**tensors**: every class of pytorch_optimizer whose update of a coordinate depends on others, and is the same in two
runs, recorded with all parameters of an MLP on digits (4 episodes of 200 steps). The rule chosen is run by
`RuleOptimizer` on whole tensors, in step with a fresh recording's parameters and gradients.

Rules of the library, recorded badly, where decays count as found within 5 % of 1 - beta and exact is 1 - R^2 < 1e-3 on
a fresh and whole recording: **noise**: 1 % noise on every update (of its own size); **bfloat16**: gradients, parameters
and updates rounded to its eight bits; **missing**: the updates of a tenth of the steps are lost, their gradients are
there; **few**: one parameter of each task.

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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import closedform as cf
from closedform._files import write_text
from closedform.errors import ClosedFormError
from closedform.learned_optimizers import BlackBox, black_box
from closedform.reproduce._base import markdown_table, measured_on
from closedform.reproduce._replay import rule_updates
from closedform.trajectories import MOST_COORDINATES, Trajectories

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("mlp-digits", "logistic-digits")
PACKAGES = ("pytorch_optimizer", "torch.optim")
FRESH = 900_000
EXACT, CLOSE, DECAY, NOISY_DECAY, NOISE, LOST = 1e-6, 1e-3, 0.02, 0.05, 0.01, 0.1
KNOWN = {
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


def looking_around(package: str) -> dict[str, BlackBox]:
    """Those that look at other coordinates."""
    found = {}
    for name in classes(package):
        try:
            box = black_box(f"{package}:{name}")
        except ClosedFormError:
            continue
        if not box.random and not box.coordinatewise:
            found[name] = box
    return found


def held_by_tensor(rule: cf.Rule, fresh: Trajectories) -> float:
    """1 - R^2 of RuleOptimizer on whole tensors, given the recorded gradients and parameters of every step."""
    layers = fresh.provenance["layers"]
    left = total = 0.0
    for episode, numbers in enumerate(fresh.episode_layers):
        for layer in numbers.unique().tolist():
            here, shape = numbers == layer, layers[layer]["shape"]
            given = (fresh.gradients, fresh.weights, fresh.episode_updates)
            g, w, truth = (values[episode][:, here].double() for values in given)
            parameter = torch.nn.Parameter(w[0].view(shape).clone())
            optimizer = cf.RuleOptimizer([parameter], rule, total_steps=len(g), backend="reference")
            for step in range(len(g)):
                with torch.no_grad():
                    parameter.copy_(w[step].view(shape))
                parameter.grad = g[step].view(shape)
                optimizer.step()
                moved = parameter.detach().flatten() - w[step]
                left += float((moved - truth[step]).square().sum())
            total += float((truth - truth.mean()).square().sum())
    return left / total if math.isfinite(left) else 1e9


def held(rule: cf.Rule, fresh: Trajectories) -> float:
    """1 - R^2 from step 1 on a fresh recording, of the cells that are finite."""
    truth = fresh.episode_updates.double()
    found = rule_updates(rule, fresh.gradients.double(), fresh.weights.double())
    good = torch.isfinite(truth)
    truth, found = truth[good], found[good]
    error = float((found - truth).square().sum() / (truth - truth.mean()).square().sum())
    return error if math.isfinite(error) else 1e9


def row(part: str, name: str, optimizer: Any, decays: tuple[float, ...], limit: float) -> Row:
    badly = part in DISTURBED
    by_tensor = part == "tensors"
    settings: dict[str, Any] = {"coordinates": MOST_COORDINATES, "steps": 200} if by_tensor else {}
    tasks = list(TASKS[:1] if by_tensor else TASKS)
    kept = {"coordinates": 1} if part == "few" else {"episodes": 4} if by_tensor else {}
    recording = cf.record(optimizer, tasks, features=("g", "w"), **settings, **kept)
    if badly:
        recording = DISTURBED[part](recording, torch.Generator().manual_seed(0))
    begin = time.monotonic()
    hall = cf.distill(recording, time_limit=limit, nonfinite_limit=2 * LOST)
    entry = hall.choose(tolerance=1e-3 if badly else 1e-8)
    seconds = time.monotonic() - begin
    fresh = cf.record(optimizer, tasks, features=("g",), episodes=2, seed=FRESH, **settings)
    error = (held_by_tensor if by_tensor else held)(entry.rule, fresh)
    numbers = [abs(value) for value in entry.rule.constants.values()]
    near = NOISY_DECAY if badly else DECAY
    missed = tuple(b for b in decays if all(min(abs(v - b), abs(1 - v - b)) > near * (1 - b) for v in numbers))
    most = CLOSE if badly else EXACT
    verdict = "exact" if error < most and not missed else "close" if error < CLOSE else "no"
    said = (entry.complexity, entry.state_cost, entry.stage, entry.equation, missed)
    return Row(part, name, verdict, error, seconds, *said)


def with_updates(recording: Trajectories, updates: Tensor) -> Trajectories:
    return replace(recording, episode_updates=updates, updates=updates[recording.positions()])


def noised(recording: Trajectories, generator: torch.Generator) -> Trajectories:
    """With normal noise on every update, a share of its size."""
    updates = recording.episode_updates
    noise = torch.randn(updates.shape, generator=generator, dtype=updates.dtype)
    return with_updates(recording, updates * (1 + NOISE * noise))


def rounded(recording: Trajectories, generator: torch.Generator) -> Trajectories:
    """All numbers as bfloat16 holds them."""
    names = ("features", "updates", "gradients", "weights", "episode_updates")
    return replace(recording, **{name: getattr(recording, name).bfloat16().float() for name in names})


def lacking(recording: Trajectories, generator: torch.Generator) -> Trajectories:
    """Without the updates of some steps."""
    updates = recording.episode_updates.clone()
    updates[torch.rand(updates.shape[:2], generator=generator) < LOST] = math.nan
    return with_updates(recording, updates)


DISTURBED: dict[str, Callable[[Trajectories, torch.Generator], Trajectories]] = {
    "noise": noised,
    "bfloat16": rounded,
    "missing": lacking,
    "few": lambda recording, generator: recording,
}


def entrants(part: str) -> Iterator[tuple[str, Any, tuple[float, ...]]]:
    """Name, optimizer, decays."""
    if part == "certainty":
        for name in NEVER:
            if name == "muon":
                yield name, cf.load_rule(name), ()
            elif name.startswith("random "):
                yield name, perturbed(name.removeprefix("random ")), ()
            else:
                yield name, cf.learned_optimizers.get(name, pretrained=True), ()
    elif part == "tensors":
        for name, box in looking_around("pytorch_optimizer").items():
            yield name, box, wanted("pytorch_optimizer", name)
    elif part in DISTURBED:
        for name, decays in KNOWN.items():
            yield name, cf.load_rule(name), decays
    else:
        for name, box in elementwise(part)[0].items():
            yield name, box, wanted(part, name)


def perturbed(name: str) -> cf.learned_optimizers.LearnedOptimizer:
    """A network with random weights everywhere, also where a new one has zeros."""
    generator = torch.Generator().manual_seed(1)
    network = cf.learned_optimizers.get(name, generator=generator)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return network


PARTS = (*PACKAGES, "tensors", *DISTURBED, "certainty")


def document(rows: list[dict[str, Any]]) -> str:
    parts = []
    for part in PARTS:
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
    for part in [options.part] if options.part else PARTS:
        for name, optimizer, decays in entrants(part):
            known = any(entry["part"] == part and entry["name"] == name for entry in rows)
            if (only is not None and name not in only) or (known and only is None):
                continue
            try:
                found = row(part, name, optimizer, decays, options.limit)
            except ClosedFormError as error:
                found = Row(part, name, "no", 1e9, 0.0, 0, 0, "", str(error), ())
            rows = [entry for entry in rows if (entry["part"], entry["name"]) != (part, name)] + [asdict(found)]
            print(part, name, found.verdict, f"{found.error:.1e}", f"{found.seconds:.1f} s", found.equation, flush=True)
            rows.sort(key=lambda entry: (entry["part"], entry["name"].lower()))
            write_text(kept, json.dumps({"measured": measured_on(), "rows": rows}, indent=1) + "\n")
    write_text(Path(f"{options.out}.md"), document(rows))


if __name__ == "__main__":
    main()
