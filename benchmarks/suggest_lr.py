"""Range tests of the learning rate beside a search over a grid.

    python benchmarks/suggest_lr.py

On each task a range test suggests a learning rate, and 300 steps are trained at it, at the best rate of a grid of 13
(half decades, the grid's best chosen by the same final losses), and at the rule's own default, from three starts that the
tests did not see. Final loss: the mean of the last 30 minibatches'. Writes benchmarks/results/suggest_lr.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median

import torch

import closedform as cf
from closedform._files import write_text
from closedform.reproduce._base import markdown_table, measured_on
from closedform.tasks import Task

RESULTS = Path(__file__).resolve().parent / "results" / "suggest_lr.md"
TASKS = (
    *("mlp-digits", "mlp-tanh-digits", "logistic-digits", "autoencoder-digits", "conv-digits"),
    *("gru-python", "deep-linear", "factorisation"),
)
RULES = ("sgd", "momentum", "adam", "lion", "cf1")
STEPS, LAST, STARTS, FIRST_START = 300, 30, 3, 5000
GRID = [10 ** (k / 2) for k in range(-10, 3)]


def trained(rule: cf.Rule, task: Task, lr: float, start: int) -> float:
    """The final loss from one start; infinite where it diverges."""
    generator = torch.Generator().manual_seed(start)
    parameters = {name: torch.nn.Parameter(value) for name, value in task.init(generator).items()}
    optimizer = cf.RuleOptimizer(parameters.values(), rule, lr=lr, total_steps=STEPS)
    losses = []
    for _ in range(STEPS):
        values = {name: value.detach() for name, value in parameters.items()}
        loss, grads = task.loss_and_grad(values, task.batch("train", generator))
        for name, parameter in parameters.items():
            parameter.grad = grads[name]
        optimizer.step()
        losses.append(float(loss))
    end = sum(losses[-LAST:]) / LAST
    return end if math.isfinite(end) else math.inf


def final(rule: cf.Rule, task: Task, lr: float) -> float:
    return sum(trained(rule, task, lr, FIRST_START + k) for k in range(STARTS)) / STARTS


def main() -> None:
    torch.set_num_threads(1)
    parts = []
    for name in RULES:
        rule, rows, ratios = cf.load_rule(name), [], {"suggested": [], "default": []}
        for title in TASKS:
            task = cf.tasks.get(title)
            found = cf.suggest_lr(rule, task)
            grid = {lr: final(rule, task, lr) for lr in GRID}
            best = min(grid, key=grid.__getitem__)
            at = {"suggested": final(rule, task, found.suggestion), "default": final(rule, task, rule.lr)}
            for key, value in at.items():
                ratios[key].append(value / grid[best])
            cells = [f"{value:.4g}" for value in (found.suggestion, at["suggested"], best, grid[best], at["default"])]
            rows.append([title, *cells, f"{ratios['suggested'][-1]:.2f}", f"{ratios['default'][-1]:.2f}"])
            print(name, *rows[-1], flush=True)
        header = (
            "task",
            "suggested",
            "its loss",
            "best of the grid",
            "its loss",
            "default's loss",
            "ratio",
            "default's",
        )
        told = "; ".join(
            f"{key}: within 10 % of the grid's best on {sum(r <= 1.1 for r in values)} of {len(values)}, ratio "
            f"{median(values):.2f} in the median, {max(values):.2f} at most"
            for key, values in ratios.items()
        )
        parts.append(f"## {name}\n\n{told[0].upper()}{told[1:]}.\n\n{markdown_table(header, rows)}\n")
    head = (
        (__doc__ or "")
        .split("Writes benchmarks")[0]
        .replace("    python benchmarks/suggest_lr.py", "`python benchmarks/suggest_lr.py`")
    )
    write_text(RESULTS, f"# {head.strip()}\n\n{measured_on()}.\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
