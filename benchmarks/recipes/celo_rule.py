"""Distil the network ``celo`` into a rule and tune the rule's constants, the way it was done.

    python benchmarks/recipes/celo_rule.py distil [--data-dir DIR]
    python benchmarks/recipes/celo_rule.py tune   [--data-dir DIR] [--runs runs/celo_rule] [--workers 1]

celo's update is a schedule, times the size of the parameter tensor, times a direction of root mean square 1. The first
two are formulas already, so they go into the rule as they are, with the numbers that were meta-trained; only the
direction is a network, and only the direction is distilled. It is recorded over whole tensors, at work on tasks like
those it was meta-trained on, beside its features, each divided by its root mean square over the tensor. Intercepts are
dropped, and equations that are not odd in the features are left out. What remains is tried as a rule on tasks larger
and longer than those recorded; the smallest whose losses are within 2 % of the best one's, in the geometric mean, is
kept.

``distil`` writes benchmarks/results/celo_distilled.json; ``tune`` evolves its constants by CMA-ES and writes
celo_tuned.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from celo import distribution

from closedform.distillation import Equation, Table, distill_table
from closedform.lang import Apply, Expr, Number, apply, evaluate, names, rename, to_text
from closedform.learned_optimizers import (
    CELO_SEEN,
    Celo,
    LearnedOptimizer,
    SymbolicOptimizer,
    load_learned_optimizer,
)
from closedform.meta_training import EvolveConfig, Problem, begin, evolve, run, steps
from closedform.rules import Rule, load_rule, save_rule
from closedform.tasks import Task
from closedform.tasks.distribution import TaskDistribution

RESULTS = Path(__file__).resolve().parent.parent / "results"
RECORDED, LOOKS, PLACES = 30, 40, 30
"""Tasks that are recorded, steps of each, and parameters at each of those steps."""
LEAST_R2, CLOSE, MOST = 0.9, 1.02, 2.0
"""R^2 of the equations that are tried, the loss over the best one's that will do, and the most that a task counts."""
DECAYS = {"mom9": 0.9, "mom99": 0.99, "mom999": 0.999}
TINY = 1e-20
TUNED_ON = ("mlp", "autoencoder", "regression", "factorisation")
"""Families of tasks that the constants are tuned on."""


def record(network: Celo, drawn: Sequence[Task]) -> Table:
    """The network's features and direction, at random steps and parameters; and each row with all signs turned."""
    generator, rows = torch.Generator().manual_seed(0), []
    for index, task in enumerate(drawn):
        carry = begin(network, Problem(task, "train"), torch.Generator().manual_seed(index), task.horizon)
        with torch.no_grad():
            for step in steps(network, Problem(task, "train"), carry, task.horizon):
                if torch.rand((), generator=generator) < LOOKS / task.horizon:
                    seen, direction = network.look(step.before.gradient, step.before.state)
                    places = torch.randint(len(direction), (PLACES,), generator=generator)
                    rows.append(torch.cat([seen, direction[None]])[:, places])
    values = torch.cat([*rows, *(-row for row in rows)], -1).double().numpy()
    return Table.from_columns(dict(zip((*CELO_SEEN, "direction"), values, strict=True)), "direction", source="celo")


def without_intercept(expr: Expr) -> Expr:
    """A sum without its numbers, which are what is not odd in most equations that are fitted to something odd."""
    if not isinstance(expr, Apply) or expr.op not in ("add", "sub"):
        return expr
    left, right = (without_intercept(arg) for arg in expr.args)
    if isinstance(right, Number):
        return left
    return (
        apply("neg", right)
        if isinstance(left, Number) and expr.op == "sub"
        else (right if isinstance(left, Number) else apply(expr.op, left, right))
    )


def odd(expr: Expr, table: Table) -> bool:
    """Whether an equation turns with its columns, at the table's rows."""
    columns = {name: torch.from_numpy(values) for name, values in zip(table.names, table.values.T, strict=True)}
    back = {name: -values for name, values in columns.items()}
    return torch.allclose(evaluate(expr, columns), -evaluate(expr, back), rtol=0, atol=1e-9)


def composed(direction: Expr, network: Celo) -> Rule:
    """The rule whose direction is an equation over the network's features; its schedule is the network's."""
    state: dict[str, str] = {"sized": "sized"}
    where: dict[str, str] = {}
    constants: dict[str, float] = {"tiny": TINY}
    for feature in sorted(names(direction)):
        _define(feature, state, where, constants)
    text = to_text(rename(direction, {feature: f"n_{feature}" for feature in names(direction)}))
    numbers = network.numbers()
    constants |= {
        "c": numbers["peak"] * 1000 ** numbers["horizon"],
        "q": -numbers["horizon"],
        "warmup": numbers["warmup"],
        "power": numbers["power"],
        "floor": numbers["vector"],
    }
    return Rule.parse(
        "celo-distilled",
        "-c*T**q*min(progress/warmup, 1)*(1 - progress)**power*max(rms(w), sized)*d/(rms(d) + tiny)",
        state=state,
        where={**where, "d": text},
        constants={name: float(f"{value:.4g}") for name, value in constants.items()},
        init={"sized": "floor*(1 - greater(rms(w), 0))"},
    )


def _define(feature: str, state: dict[str, str], where: dict[str, str], constants: dict[str, float]) -> None:
    """Add what a feature, divided by its root mean square, is made of."""
    first, _, over = feature.partition("_")
    if first in DECAYS:
        constants[f"b{first[3:]}"] = DECAYS[first]
        state[first] = f"b{first[3:]}*{first} + g"  # its size does not matter
    if over == "v95":
        constants["b2"] = 0.95
        state["v"] = "b2*v + square(g)"
        where["root"] = "sqrt(v) + tiny"
    elif over == "factored":
        constants["b3"] = 0.99
        state |= {"row": "b3*row + row_mean(square(g))", "col": "b3*col + col_mean(square(g))"}
        where["root2"] = "sqrt(row*col) + tiny"
    value = {"": first, "v95": f"{first}/root", "factored": f"{first}/root2"}[over]
    if over:
        where[feature] = value
    name = feature if over else first
    where[f"n_{feature}"] = f"{name}/(rms({name}) + tiny)"


def ratio(optimizer: LearnedOptimizer, drawn: Sequence[Task], reference: Sequence[float]) -> float:
    """Geometric mean of its final losses over the reference's, each from 1/2 to 2."""
    logs = [math.log(a / b) for a, b in zip(finals(optimizer, drawn), reference, strict=True)]
    print(" ".join(f"{math.exp(log):.3f}" for log in logs))
    return math.exp(sum(min(max(log, -math.log(MOST)), math.log(MOST)) for log in logs) / len(logs))


def finals(optimizer: LearnedOptimizer, drawn: Sequence[Task]) -> list[float]:
    """Mean loss of the last tenth of an episode of each task."""
    found = []
    for task in drawn:
        problem = Problem(task, "train")
        carry = begin(optimizer, problem, torch.Generator().manual_seed(1), task.horizon)
        with torch.no_grad():
            losses, _ = run(optimizer, problem, carry, task.horizon)
        found.append(float(losses[-task.horizon // 10 :].mean().nan_to_num(nan=1e9)))
    return found


def larger(data_dir: Path | None) -> TaskDistribution:
    """Two to three times as wide and as long as what was recorded, in natural units."""
    return replace(
        distribution(data_dir),
        horizon=(500, 1200),
        budget=1500.0,
        width=(24, 48),
        reparametrise=0.0,
        reparametrise_all=0.0,
        label_noise=0.0,
    )


def distil(data_dir: Path | None) -> Rule:
    network = load_learned_optimizer("celo")
    assert isinstance(network, Celo)
    table = record(network, distribution(data_dir).tasks(RECORDED, seed=77))
    hall = distill_table(table, time_limit=60, max_complexity=30, operators=("add", "sub", "mul", "div", "tanh", "abs"))
    front = {without_intercept(entry.expr): entry for entry in hall.entries if entry.r2 >= LEAST_R2}
    drawn = larger(data_dir).one_of_each(seed=5)
    reference = finals(network, drawn)
    tried: list[tuple[float, Equation, Rule]] = []
    for direction, entry in front.items():
        if odd(direction, table):
            rule = composed(direction, network)
            tried.append((ratio(SymbolicOptimizer(rule), drawn, reference), entry, rule))
            print(
                f"R^2 {entry.r2:.4f}, {rule.complexity} nodes, loss {tried[-1][0]:.4f}: {to_text(direction)}",
                flush=True,
            )
    best = min(loss for loss, _, _ in tried)
    loss, entry, rule = next(one for one in tried if one[0] <= CLOSE * best)
    provenance = {
        "command": "python benchmarks/recipes/celo_rule.py distil",
        "network": "celo",
        "direction": {"equation": to_text(rule.program.where["d"]), "r2": entry.r2, "rows": len(table.target)},
        "loss_over_network": {"tasks": [[task.name, task.horizon] for task in drawn], "ratio": loss},
    }
    return replace(rule, provenance=provenance)


def tune(data_dir: Path | None, runs: Path, workers: int) -> Rule:
    """On few and cheap tasks: it was done in minutes of one core."""
    small = replace(distribution(data_dir), families=TUNED_ON, horizon=(60, 300), width=(8, 24))
    rule = load_rule(RESULTS / "celo_distilled.json")
    tuned = evolve(
        rule,
        small.tasks(6, seed=78),
        replace(larger(data_dir), families=TUNED_ON, horizon=(400, 700)).one_of_each(seed=6),
        trainable=[name for name in rule.constants if name != "tiny"],
        config=EvolveConfig(generations=8, population=8, tasks=3, sigma=0.15, validate_every=2, workers=workers),
        out=runs,
        resume=True,
        on_record=show,
    )
    return replace(tuned, name="celo-tuned")


def show(record: Mapping[str, Any]) -> None:
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in record.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("distil", "tune"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/celo_rule"))
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "distil":
        save_rule(distil(given.data_dir), RESULTS / "celo_distilled.json")
    else:
        save_rule(tune(given.data_dir, given.runs, given.workers), RESULTS / "celo_tuned.json")


if __name__ == "__main__":
    main()
