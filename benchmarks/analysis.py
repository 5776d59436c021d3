"""How well, and how fast, optimizers are read.

    python benchmarks/analysis.py

Fields and time scales beside closed forms; library rules with changed constants and whether they are recognised;
seconds of ``explain``, ``compare`` of six and ``nearest`` on 10,000 rows, medians of three in one process, after torch
is loaded. Writes benchmarks/results/analysis.md and .json.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import closedform as cf
from closedform._files import write_text
from closedform.analysis import compare, explain, nearest, perception, portrait
from closedform.learned_optimizers import PRETRAINED, Role, constant_roles
from closedform.report import comparison_html
from closedform.reproduce._base import markdown_table, measured_on
from closedform.rules import Rule, library_names

RESULTS = Path(__file__).resolve().parent / "results"
SIX = ("adam", "lion", "rp", "cf1", "momentum", "sgd")


def forms() -> list[list[str]]:
    """Measured beside closed forms."""
    lion = cf.load_rule("lion").constants
    kernel = [1 - lion["beta1"]] + [
        lion["beta1"] * (1 - lion["beta2"]) * lion["beta2"] ** (k - 1) for k in range(1, 5000)
    ]
    rows = [
        ("TPF of sgd", perception("sgd").gradient.tpf, 1.0),
        ("TPF of momentum", perception("momentum").gradient.tpf, 10.0),
        ("TPF of Adam's m", perception("adam").get("m").tpf, 10.0),
        ("TPF of Adam's v", perception("adam").get("v").tpf, 1000.0),
        ("TPF of Lion, inside its sign", perception("lion").gradient.tpf, age(kernel)),
        ("time scale of momentum", slowest("momentum"), -1 / math.log(0.9)),
        ("time scale of Adam's v", slowest("adam"), -1 / math.log(0.999)),
        ("stability limit of sgd", portrait("sgd").quadratics.limit, 2.0),  # type: ignore[union-attr]
        ("stability limit of momentum", portrait("momentum").quadratics.limit, 3.8),  # type: ignore[union-attr]
    ]
    return [[what, f"{found:.7g}", f"{exact:.7g}", f"{abs(found / exact - 1):.1e}"] for what, found, exact in rows]


def age(kernel: list[float]) -> float:
    return sum((k + 1) * s for k, s in enumerate(kernel)) / sum(kernel)


def slowest(name: str) -> float:
    rest = portrait(name).settled
    assert rest is not None
    return rest.time_scales[0].steps


def changed(rule: Rule) -> Rule:
    """A rule with decays of another memory, other weights, and another learning rate."""
    roles = constant_roles(rule.program.live)
    moved = {}
    for name, role in roles.items():
        value = rule.constants[name]
        if role is Role.DECAY:
            moved[name] = 1 - (1 - value) * (2.5 if value < 0.99 else 20)
        elif role is not Role.FLOOR and name != "beta3":  # that of AdEMAMix is a decay that is warmed up to
            moved[name] = 1.3 * value
    return Rule(rule.name, rule.program, 1.7 * rule.lr).with_constants(**moved)


def recognised() -> list[list[str]]:
    rows = []
    for name in library_names():
        rule = changed(cf.load_rule(name))
        found = nearest(cf.record(rule, "mlp-digits", steps=80, episodes=4, coordinates=32))
        right = "left out" if name in found.left_out else "yes" if found.matches[0].name == name else "no"
        error = f"{1 - found.matches[0].r2:.1e}"
        rows.append([name, right, found.verdict, found.matches[0].name, error, f"{found.seconds:.1f}"])
    return rows


def networks() -> list[list[str]]:
    rows = []
    for name in PRETRAINED:
        recording = cf.record(name, "mlp-digits", steps=200, episodes=4, coordinates=32)
        field = perception(name, recording)
        told = ", ".join(f"{curve.input} {curve.told}" for curve in field.curves)
        rows.append([name, told, nearest(recording).sentence])
    for seed in range(5):
        network = cf.learned_optimizers.get("rp" if seed % 2 else "dm", generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            network.output_weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
        recording = cf.record(network, "mlp-digits", steps=100, episodes=4, coordinates=32)
        rows.append([f"{network.name}, random weights {seed}", "", nearest(recording).sentence])
    return rows


def seconds(what: Callable[[], Any], runs: int = 3) -> float:
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        what()
        found.append(time.perf_counter() - begin)
    return median(found)


def main() -> None:
    torch.set_num_threads(1)
    explain("sgd")  # so that nothing is imported inside a measurement
    ten_thousand = cf.record("adam", "mlp-digits", steps=300, episodes=8, samples=10_000)
    page = len(comparison_html(compare(SIX)).encode())
    times = [
        ["explain adam", f"{seconds(lambda: explain('adam')):.2f}", "1"],
        [f"compare {' '.join(SIX)}", f"{seconds(lambda: compare(SIX)):.1f}", "60"],
        ["nearest, 10,000 rows", f"{seconds(lambda: nearest(ten_thousand)):.1f}", "5"],
    ]
    tables = {"closed forms": forms(), "times": times, "library rules": recognised(), "networks": networks()}
    text = f"""# Reading optimizers

`python benchmarks/analysis.py`; {measured_on()}.

{markdown_table(("what", "measured", "closed form", "relative error"), tables["closed forms"])}

{markdown_table(("what", "seconds", "asked: less than"), times)}

The page of these six: {page / 1024:.0f} KiB. Times are without the 1.2 seconds that importing torch takes.

## Library rules, their constants changed

Recorded on mlp-digits, 80 steps, 4 episodes, 32 coordinates; nothing is told but the recording.

{markdown_table(("rule", "recognised", "verdict", "nearest", "1 - R^2", "seconds"), tables["library rules"])}

## Networks

Perception fields in steps, over a recording of 200 steps on mlp-digits; and the nearest known optimizer.

{markdown_table(("network", "looks back", "nearest"), tables["networks"])}
"""
    write_text(RESULTS / "analysis.md", text)
    write_text(RESULTS / "analysis.json", json.dumps({"page_bytes": page, **tables}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
