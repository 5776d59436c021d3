"""Range tests of the learning rate beside a search over a grid.

    python benchmarks/suggest_lr.py

On each task, none of which the share of the rate of the least loss was chosen on, a range test suggests a learning
rate, and 300 steps are trained at it, at the best rate of a grid of 13 (half decades, chosen by the very losses shown),
and at the rule's own default, from two starts that the tests did not see. Final loss: the mean of the last 30
minibatches. *Progress*: log(first loss / final loss), over that of the grid's best. Writes
benchmarks/results/suggest_lr.md.
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
TASKS = ("mlp-deep-digits", "mlp-wide-digits", "mlp-sigmoid-digits", "gru-python", "lasso", "factorisation")
RULES = ("sgd", "momentum", "adam", "lion", "cf1")
STEPS, LAST, STARTS, FIRST_START = 300, 30, 2, 5000
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
        rule, rows = cf.load_rule(name), []
        shares: dict[str, list[float]] = {"suggested": [], "default": []}
        for title in TASKS:
            task = cf.tasks.get(title)
            found = cf.suggest_lr(rule, task)
            grid = {lr: final(rule, task, lr) for lr in GRID}
            best = min(grid, key=grid.__getitem__)
            at = {"suggested": final(rule, task, found.suggestion), "default": final(rule, task, rule.lr)}
            for key, value in at.items():
                shares[key].append(math.log(found.losses[0] / value) / math.log(found.losses[0] / grid[best]))
            cells = [f"{value:.3g}" for value in (found.suggestion, at["suggested"], best, grid[best], at["default"])]
            rows.append([title, *cells, *(f"{values[-1]:.2f}" for values in shares.values())])
            print(name, *rows[-1], flush=True)
        header = (
            "task",
            "suggested",
            "its loss",
            "best of grid",
            "its loss",
            "default's loss",
            "progress",
            "default's",
        )
        told = "; ".join(f"{key}: {median(v):.2f} in the median, {min(v):.2f} at least" for key, v in shares.items())
        parts.append(f"## {name}\n\nProgress, {told}.\n\n{markdown_table(header, rows)}\n")
    text = (__doc__ or "").split(" Writes\nbenchmarks")[0].strip()
    title, text = text.split("\n", 1)
    text = text.replace("    python benchmarks/suggest_lr.py", "`python benchmarks/suggest_lr.py`")
    write_text(RESULTS, f"# {title}\n{text}\n\n{measured_on()}.\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
